//! Who calls, and what they may do. A project is one API of one team; its subjects own channels. Nothing crosses
//! projects, and what is another project's looks exactly like what is not there.

use std::collections::BTreeSet;

use super::{
    App,
    issuer::{Issuer, IssuerError},
};
use crate::{
    domain::resource::{ResourcePath, ResourcePattern},
    signing::{JwtError, api_key_hash},
    store::Owner,
};

/// Project and subject of every caller while authentication is off.
pub const DEFAULT_NAME: &str = "default";
/// Query parameters in which Google's clients may send their credential, in the order in which they count.
pub const QUERY_CREDENTIALS: [&str; 3] = ["access_token", "oauth_token", "key"];
/// Longest name of a project or subject.
pub const NAME_BYTES_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Open, read, change and stop the own subject's channels; read the feed of what one may watch.
    Channels,
    /// Publish.
    Events,
    /// The whole project.
    Admin,
    /// This server: run its jobs. Only commands beside the store mint it.
    Operator,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Events => "events",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Channels, Self::Events, Self::Admin, Self::Operator]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }
}

/// Who says who callers are, beside the server itself.
#[derive(Debug, Default)]
pub struct Callers {
    pub issuer: Option<Issuer>,
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Principal {
    pub project: String,
    pub subject: String,
    scopes: BTreeSet<Scope>,
    /// What may be watched; `None` is the whole project.
    resources: Option<Vec<ResourcePattern>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("no credentials were given: send `Authorization: Bearer` and a token")]
    Missing,
    #[error("the credentials are not valid")]
    Invalid,
    #[error("the credentials lack the scope {}", .0.as_str())]
    Scope(Scope),
    #[error("the credentials do not allow this resource")]
    Resource,
    /// Not the caller's fault.
    #[error("whether the credentials are valid cannot be found out right now")]
    Unavailable,
}

impl Principal {
    pub(super) fn new(
        project: String,
        subject: String,
        scopes: BTreeSet<Scope>,
        resources: Option<&[String]>,
    ) -> Self {
        let patterns = |patterns: &[String]| {
            patterns.iter().map(|pattern| ResourcePattern::parse(pattern, &subject)).collect()
        };
        Self { resources: resources.map(patterns), project, subject, scopes }
    }

    /// Fails without `scope`; `admin` includes all that concerns its project.
    pub fn require(&self, scope: Scope) -> Result<(), AccessError> {
        let included = scope != Scope::Operator && self.scopes.contains(&Scope::Admin);
        if included || self.scopes.contains(&scope) { Ok(()) } else { Err(AccessError::Scope(scope)) }
    }

    /// Fails unless `resource` may be watched.
    pub fn require_resource(&self, resource: &ResourcePath) -> Result<(), AccessError> {
        let Some(patterns) = &self.resources else { return Ok(()) };
        if self.is_admin() || patterns.iter().any(|pattern| pattern.matches(resource)) {
            Ok(())
        } else {
            Err(AccessError::Resource)
        }
    }

    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }

    /// Whose channels the caller sees.
    pub fn owner(&self) -> Owner {
        Owner { project: self.project.clone(), subject: (!self.is_admin()).then(|| self.subject.clone()) }
    }

    fn everything() -> Self {
        Self {
            project: DEFAULT_NAME.to_owned(),
            subject: DEFAULT_NAME.to_owned(),
            scopes: BTreeSet::from([Scope::Channels, Scope::Events, Scope::Admin, Scope::Operator]),
            resources: None,
        }
    }
}

/// Whether a project or subject can be called this.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

impl App {
    /// The caller that the credential stands for; it is not even looked at while authentication is off.
    pub async fn authenticate(
        &self,
        credential: impl FnOnce() -> Result<Option<String>, AccessError>,
    ) -> Result<Principal, AccessError> {
        if self.settings.auth_off {
            return Ok(Principal::everything());
        }
        let credential = credential()?.ok_or(AccessError::Missing)?;
        match api_key_hash(&credential) {
            Some(hash) => self.principal_of_key(hash).await,
            None => self.principal_of_token(&credential).await,
        }
    }

    async fn principal_of_token(&self, token: &str) -> Result<Principal, AccessError> {
        let now = self.now();
        let by_operator = self.keys.operator.verify(token, now);
        let is_operator = by_operator.is_ok();
        let claims = match by_operator.or_else(|_| self.keys.jwt.verify(token, now)) {
            Ok(claims) => claims,
            Err(JwtError::Invalid) => return self.principal_of_issuer(token).await,
            Err(error) => return Err(refused(&error)),
        };
        // Others may issue tokens too, and no store holds names like these.
        if !is_name(&claims.project) || !is_name(&claims.sub) {
            return Err(AccessError::Invalid);
        }
        let scopes = claims.scope.split_ascii_whitespace().filter_map(Scope::parse);
        let scopes = scopes.filter(|scope| is_operator || *scope != Scope::Operator).collect();
        Ok(Principal::new(claims.project, claims.sub, scopes, claims.resources.as_deref()))
    }

    /// Of a token that is none of this server's own.
    async fn principal_of_issuer(&self, token: &str) -> Result<Principal, AccessError> {
        let Some(issuer) = &self.callers.issuer else { return Err(refused(&JwtError::Invalid)) };
        let bearer = issuer.verify(token, self.now()).await.map_err(|error| match error {
            IssuerError::Unavailable => AccessError::Unavailable,
            IssuerError::Token(_) | IssuerError::Claims(_) => refused(&error),
        })?;
        if !is_name(&bearer.project) || !is_name(&bearer.subject) {
            return Err(AccessError::Invalid);
        }
        let scopes = bearer.scopes.iter().filter_map(|word| Scope::parse(word));
        let scopes = scopes.filter(|scope| *scope != Scope::Operator).collect();
        // Whoever is not told what they may watch may watch nothing.
        let resources = bearer.resources.unwrap_or_default();
        Ok(Principal::new(bearer.project, bearer.subject, scopes, Some(&resources)))
    }
}

/// Why is for the log alone.
fn refused(reason: &dyn std::error::Error) -> AccessError {
    tracing::info!(reason = %reason, "a token was refused");
    AccessError::Invalid
}
