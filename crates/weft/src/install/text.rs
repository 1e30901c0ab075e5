//! What is in the files that are installed.

use std::path::Path;

use serde_json::json;
use weft_agent::privileges::NEEDED;
use weft_model::NetworkName;

/// The unit. Why each line is there stands beside it, for the administrator who reads it on the host.
pub(super) fn unit(program: &Path) -> String {
    let reasons: String = NEEDED.iter().map(|p| format!("# {}: {}.\n", p.name, p.reason)).collect();
    let names: Vec<&str> = NEEDED.iter().map(|p| p.name).collect();
    UNIT.replace("@PROGRAM@", &program.display().to_string())
        .replace("@REASONS@", reasons.trim_end())
        .replace("@CAPABILITIES@", &names.join(" "))
}

/// The unit that starts containers after a boot.
pub(super) fn containers(program: &Path) -> String {
    CONTAINERS.replace("@PROGRAM@", &program.display().to_string())
}

const CONTAINERS: &str = "\
# Wanted by weft.service. Not a part of it: what it starts needs more rights than the agent has.
[Unit]
Description=containers of weft that start with the host
After=weft.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=@PROGRAM@ start --after-boot
# Each container is held by a process of its own, which outlives this unit and the agent.
KillMode=process
";

const UNIT: &str = "\
[Unit]
Description=weft container network agent
# Those with --restart always and unless-stopped.
Wants=weft-containers.service
# Facts about the uplink are watched, so the agent need not wait for the network to be up.
After=network-pre.target
# Containers that are started at boot should find the agent.
Before=containerd.service crio.service docker.service kubelet.service
# Never give up: traffic flows without the agent, but nothing new is attached.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=@PROGRAM@ agent
Restart=always
RestartSec=0.2
# A restart must not touch what outlives the agent.
KillMode=process
RuntimeDirectory=weft
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
StateDirectory=weft
StateDirectoryMode=0700
# Several files per workload while it is set up.
LimitNOFILE=65536
# Kernels before 5.11 count BPF maps as locked memory.
LimitMEMLOCK=infinity

@REASONS@
CapabilityBoundingSet=@CAPABILITIES@
NoNewPrivileges=yes
# What services usually call, and bpf; not what changes owners, users, keys or the scheduler. Anything else fails
# with \"operation not permitted\" and is in the log, for a network that stops is worse than one that complains.
SystemCallFilter=@system-service bpf
SystemCallFilter=~@aio @chown @keyring @resources @setuid
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
# It enters network namespaces and makes none of any kind.
RestrictNamespaces=net
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
# /usr, /boot and /etc are read-only; the state and runtime directories lie outside of them.
ProtectSystem=full
# Not \"yes\": that hides /run/user, where rootless containers have their namespaces.
ProtectHome=read-only
# Not set: ProtectKernelTunables (the agent writes /proc/sys/net), PrivateNetwork, PrivateMounts
# (namespaces mounted on the host must become visible to the agent, and do: propagation is slave).
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
UMask=0077

[Install]
WantedBy=multi-user.target
";

/// Keeps systemd-networkd off weft's links, whatever a broad `[Match]` elsewhere says.
///
/// No `.link` file: udev leaves the address of a link alone that was given one at creation. No
/// `ManageForeignRoutes=no`: weft's routes go by its own links, which networkd does not manage then.
pub(super) const NETWORKD: &str = "\
# Made by weft: its links are its own affair.
[Match]
Name=weft*

[Link]
Unmanaged=yes
";

/// Keeps NetworkManager off weft's links.
pub(super) const NETWORK_MANAGER: &str = "\
# Made by weft: its links are its own affair.
[keyfile]
unmanaged-devices+=interface-name:weft*
";

/// The configuration list for container runtimes. 1.0.0 is the newest that containerd 1.6 speaks.
pub(super) fn conflist(network: &NetworkName, socket: Option<&Path>) -> String {
    let mut plugin = json!({
        "type": "weft",
        "capabilities": {
            "bandwidth": true, "dns": true, "ipRanges": true, "ips": true, "mac": true, "portMappings": true,
        },
    });
    if network.as_str() != "default" {
        plugin["network"] = network.as_str().into();
    }
    if let Some(socket) = socket {
        plugin["socket"] = socket.display().to_string().into();
    }
    format!("{:#}\n", json!({ "cniVersion": "1.0.0", "name": "weft", "plugins": [plugin] }))
}
