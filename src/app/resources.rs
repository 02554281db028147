//! Resources: listed, read, declared, deleted.

use std::collections::HashSet;

use super::{AccessError, App, Principal, Scope};
use crate::{
    domain::{
        channel::ResourceKey,
        invalid::{FieldError, InField, Invalid},
        resource::ResourcePath,
    },
    store::{ResourceView, StoreError},
};

pub const PAGE_MAX: i64 = 200;
/// Transactions of one call that deletes: a larger log takes several calls.
const DELETION_SLICES_MAX: usize = 10_000;
/// What is wrong with a resource that nobody declared, where that is needed.
pub const UNDECLARED: Invalid = Invalid::Rule("be declared before, with PUT /v1/resources");

#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Nobody ever watched it or published to it here.
    #[error("there is no such resource")]
    NotFound,
    #[error("watchpost/channels always exists")]
    Own,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far a call has come with a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    Entirely,
    /// The rest takes another call.
    InPart,
}

impl App {
    /// A page of the resources that the caller may watch, in the order of their paths, and the place of the next page.
    pub async fn list_resources(
        &self,
        principal: &Principal,
        after: Option<ResourceKey>,
        limit: i64,
    ) -> Result<(Vec<ResourceView>, Option<ResourceKey>), ResourceError> {
        require_reader(principal)?;
        let mut page = self.store.resources(&principal.project, after, limit).await?;
        let full = i64::try_from(page.len()).is_ok_and(|rows| rows == limit);
        let next = page.last().filter(|_| full).map(|view| view.key);
        page.retain(|view| may_read(principal, &view.path));
        Ok((page, next))
    }

    pub async fn resource(
        &self,
        principal: &Principal,
        resource_id: &str,
    ) -> Result<ResourceView, ResourceError> {
        require_reader(principal)?;
        check_id(resource_id)?;
        let found = self.store.resource(&principal.project, resource_id).await?;
        // An id can be computed from a path: a refusal would tell whether somebody else's path exists.
        found.filter(|found| may_read(principal, &found.path)).ok_or(ResourceError::NotFound)
    }

    /// Makes a resource exist, and says whether it did not before.
    pub async fn declare_resource(
        &self,
        principal: &Principal,
        written: &str,
    ) -> Result<(ResourceView, bool), ResourceError> {
        principal.require(Scope::Events)?;
        let path = ResourcePath::parse_for(written, &principal.subject).in_field("resource")?;
        if path.is_own() {
            return Err(FieldError::new("resource", Invalid::Rule("not lie under watchpost/")).into());
        }
        Ok(self.store.declare_resource(&principal.project, &path, self.now()).await?)
    }

    /// Deletes a resource: a last `not_exists`, the data of its events is erased, and its channels end once their
    /// receivers have had that last event. Safe to repeat.
    pub async fn delete_resource(
        &self,
        principal: &Principal,
        resource_id: &str,
    ) -> Result<Deleted, ResourceError> {
        principal.require(Scope::Admin)?;
        check_id(resource_id)?;
        if resource_id == ResourcePath::own_channels().resource_id(&principal.project) {
            return Err(ResourceError::Own);
        }
        let now = self.now();
        let begun = self.store.begin_deletion(&principal.project, resource_id, now).await?;
        let deletion = begun.ok_or(ResourceError::NotFound)?;
        for _ in 0..DELETION_SLICES_MAX {
            let slice = self.store.deletion_slice(deletion, now).await?;
            if !slice.ending.is_empty() {
                self.bells.changed(slice.ending).await;
            }
            if slice.is_done {
                return Ok(Deleted::Entirely);
            }
        }
        Ok(Deleted::InPart)
    }

    /// Those of `paths` that do not exist, where only declared resources do.
    pub(super) async fn undeclared(
        &self,
        project: &str,
        paths: &[ResourcePath],
    ) -> Result<HashSet<ResourcePath>, StoreError> {
        if !self.settings.declared_only {
            return Ok(HashSet::new());
        }
        let own = ResourcePath::own_channels();
        let needed: HashSet<ResourcePath> = paths.iter().filter(|path| **path != own).cloned().collect();
        let declared = self.store.declared_resources(project, needed.iter().cloned().collect()).await?;
        Ok(needed.into_iter().filter(|path| !declared.contains(path)).collect())
    }
}

/// Whoever watches or publishes may look.
fn require_reader(principal: &Principal) -> Result<(), AccessError> {
    principal.require(Scope::Events).or_else(|_| principal.require(Scope::Channels))
}

fn may_read(principal: &Principal, path: &ResourcePath) -> bool {
    principal.require(Scope::Events).is_ok() || principal.may_watch(path)
}

/// What no resource can be called is not looked up: not every store takes every text.
fn check_id(resource_id: &str) -> Result<(), ResourceError> {
    let is_id = resource_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_id { Ok(()) } else { Err(ResourceError::NotFound) }
}
