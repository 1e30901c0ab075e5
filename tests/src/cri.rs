//! A small client of the Container Runtime Interface: what a kubelet does to give a pod its network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

use crate::engine::{self, Engine};
use crate::images::BUSYBOX;
use crate::{Sandbox, wait};

pub mod message;

use message::{
    ContainerConfig, ContainerId, ContainerMetadata, CreateContainerRequest, Empty, ExecSyncRequest,
    ExecSyncResponse, ImageSpec, PodSandboxConfig, PodSandboxId, PodSandboxMetadata, PodSandboxStatus,
    PodSandboxStatusResponse, RunPodSandboxRequest, RuntimeCondition, StatusResponse, VersionResponse,
};

/// A pod of the suite and its one container.
#[derive(Debug, Clone)]
struct Pod {
    sandbox: String,
    container: String,
}

/// A connexion to a container runtime, as an [`Engine`] whose containers are pods.
#[derive(Debug)]
pub struct Cri {
    runtime: Runtime,
    channel: Channel,
    pods: Mutex<HashMap<String, Pod>>,
}

impl Cri {
    /// Connects to a runtime's socket inside the sandbox, and waits until its CRI answers.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub fn connect(sandbox: &Sandbox, socket: &str) -> Result<Cri> {
        let path = sandbox.path(socket);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        // The address is for HTTP's sake; every connexion goes to the socket.
        let endpoint = Endpoint::from_static("http://cri.invalid").timeout(Duration::from_secs(120));
        let connector = move |_: Uri| dial(path.clone());
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_with_connector_lazy(tower::service_fn(connector))
        };
        let cri = Cri { runtime, channel, pods: Mutex::default() };
        wait::until("the CRI to answer", wait::LONG, || cri.version())?;
        Ok(cri)
    }

    fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"))?;
        let mut client = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            client.ready().await.with_context(|| format!("{method}: no connexion"))?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = client.unary(tonic::Request::new(request), path, codec).await;
            let answer = answer.map_err(|status| anyhow::anyhow!("{method}: {}", status.message()))?;
            Ok(answer.into_inner())
        })
    }

    /// Name and version of the runtime.
    ///
    /// # Errors
    /// The runtime's; so for all calls below.
    pub fn version(&self) -> Result<VersionResponse> {
        self.call("Version", Empty {})
    }

    /// One condition of the runtime's status, such as `NetworkReady`.
    ///
    /// # Errors
    /// If it reports no such condition.
    pub fn condition(&self, name: &str) -> Result<RuntimeCondition> {
        let response: StatusResponse = self.call("Status", Empty {})?;
        let conditions = response.status.unwrap_or_default().conditions;
        conditions.into_iter().find(|c| c.r#type == name).with_context(|| format!("no condition {name}"))
    }

    /// Makes a pod and gives its identifier.
    ///
    /// # Errors
    /// The runtime's, which contains the CNI plugin's.
    pub fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<String> {
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        Ok(self.call::<_, PodSandboxId>("RunPodSandbox", request)?.pod_sandbox_id)
    }

    /// The state and addresses of a pod.
    ///
    /// # Errors
    /// The runtime's.
    pub fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        let request = PodSandboxId { pod_sandbox_id: id.to_owned() };
        let response: PodSandboxStatusResponse = self.call("PodSandboxStatus", request)?;
        response.status.context("no status in the answer")
    }

    /// Ends the pod's containers and gives its network back. May be called again.
    ///
    /// # Errors
    /// The runtime's.
    pub fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("StopPodSandbox", PodSandboxId { pod_sandbox_id: id.to_owned() }).map(|_| ())
    }

    /// Forgets a stopped pod.
    ///
    /// # Errors
    /// The runtime's.
    pub fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.call::<_, Empty>("RemovePodSandbox", PodSandboxId { pod_sandbox_id: id.to_owned() }).map(|_| ())
    }

    /// Makes and starts a container in a pod.
    ///
    /// # Errors
    /// The runtime's.
    pub fn run_container(
        &self,
        pod: &str,
        config: &PodSandboxConfig,
        command: Vec<String>,
    ) -> Result<String> {
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into() }),
            image: Some(ImageSpec { image: BUSYBOX.into() }),
            command,
            log_path: "main.log".into(),
            linux: Some(Empty {}),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(container),
            sandbox_config: Some(config.clone()),
        };
        let made: ContainerId = self.call("CreateContainer", request)?;
        self.call::<_, Empty>("StartContainer", made.clone())?;
        Ok(made.container_id)
    }

    /// Runs a program in a container.
    ///
    /// # Errors
    /// The runtime's, or the program's standard error if it failed.
    pub fn exec_sync(&self, container: &str, args: &[&str]) -> Result<String> {
        let cmd = args.iter().map(ToString::to_string).collect();
        let request = ExecSyncRequest { container_id: container.to_owned(), cmd, timeout: 60 };
        let answer: ExecSyncResponse = self.call("ExecSync", request)?;
        let words = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.exit_code == 0, "`{}` failed ({}): {words}", args.join(" "), answer.exit_code);
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    fn pod(&self, id: &str) -> Result<Pod> {
        let pods = self.pods.lock().map_err(|_| anyhow::anyhow!("another thread panicked"))?;
        pods.get(id).cloned().with_context(|| format!("no pod {id}"))
    }
}

/// What a kubelet would say of a pod of that name.
#[must_use]
pub fn pod_config(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: format!("/var/log/pods/{name}"),
        linux: Some(Empty {}),
        ..PodSandboxConfig::default()
    }
}

impl Engine for Cri {
    fn name(&self) -> String {
        let version = self.version().unwrap_or_default();
        format!("the CRI of {} {}", version.runtime_name, version.runtime_version)
    }

    fn start(&self, id: &str) -> Result<Vec<IpAddr>> {
        let config = pod_config(id);
        let sandbox = self.run_pod_sandbox(&config)?;
        let container = self.run_container(&sandbox, &config, engine::server(id).to_vec())?;
        let network = self.pod_sandbox_status(&sandbox)?.network.context("a pod without network")?;
        let pod = Pod { sandbox, container };
        self.pods.lock().map_err(|_| anyhow::anyhow!("another thread panicked"))?.insert(id.to_owned(), pod);
        let ips = std::iter::once(&network.ip).chain(network.additional_ips.iter().map(|more| &more.ip));
        ips.map(|ip| ip.parse().with_context(|| format!("{ip:?} is not an address"))).collect()
    }

    fn exec(&self, id: &str, args: &[&str]) -> Result<String> {
        self.exec_sync(&self.pod(id)?.container, args)
    }

    fn remove(&self, id: &str) -> Result<()> {
        let pod = self.pod(id)?.sandbox;
        self.stop_pod_sandbox(&pod)?;
        self.stop_pod_sandbox(&pod).context("a second stop")?; // kubelets do
        self.remove_pod_sandbox(&pod)
    }
}

async fn dial(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}
