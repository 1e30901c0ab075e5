//! The servers of an etcd themselves: listing, adding and removing them.
//!
//! Never decides who should be one.

use super::Etcd;
use super::message::{
    Empty, Member, MemberAddRequest, MemberAddResponse, MemberRemoveRequest, MembersResponse,
};
use crate::cluster::ClusterError;

impl Etcd {
    /// The members.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn members(&self) -> Result<Vec<Member>, ClusterError> {
        let answer: MembersResponse = self.call("/etcdserverpb.Cluster/MemberList", Empty {})?;
        Ok(answer.members)
    }

    /// Announces a member that will listen for the others at `peer_url`. Returns it and all members.
    ///
    /// # Errors
    /// [`ClusterError`], also if etcd thinks that the members could lose their majority by it.
    pub fn add_member(&self, peer_url: &str) -> Result<(Member, Vec<Member>), ClusterError> {
        let request = MemberAddRequest { peer_urls: vec![peer_url.to_owned()] };
        let answer: MemberAddResponse = self.call("/etcdserverpb.Cluster/MemberAdd", request)?;
        Ok((answer.member.unwrap_or_default(), answer.members))
    }

    /// Removes a member.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn remove_member(&self, id: u64) -> Result<(), ClusterError> {
        let request = MemberRemoveRequest { id };
        self.call::<_, MembersResponse>("/etcdserverpb.Cluster/MemberRemove", request).map(drop)
    }

    /// Makes etcd forget its history up to now.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn compact(&self) -> Result<(), ClusterError> {
        use crate::cluster::ClusterStore as _;
        let revision = super::signed(self.snapshot()?.revision.0);
        let request = super::message::CompactionRequest { revision };
        self.call::<_, Empty>("/etcdserverpb.KV/Compact", request).map(drop)
    }
}
