//! Who calls, and what they may do. A project is one API of one team; its subjects own channels. Nothing crosses
//! projects, and what is another project's looks exactly like what is not there.

use std::collections::BTreeSet;

use super::{
    App,
    authorizer::{Action, Authorizer, Credential, Question},
    issuer::{Issuer, IssuerError},
};
use crate::{
    domain::{
        issuer::ClaimsError,
        resource::{ResourcePath, ResourcePattern},
    },
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
    pub authorizer: Option<Authorizer>,
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Principal {
    pub project: String,
    pub subject: String,
    scopes: BTreeSet<Scope>,
    watchable: Watchable,
}

/// What a caller may watch.
#[derive(Clone, Debug)]
enum Watchable {
    /// The whole project.
    All,
    Only(Vec<ResourcePattern>),
    /// Whoever authorizes decides, each time, about the bearer of this.
    Asked(Credential),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("no credentials were given: send `Authorization: Bearer` and a token")]
    Missing,
    #[error("the credentials are not valid")]
    Invalid,
    #[error("the credentials have expired")]
    Expired,
    #[error("the credentials lack the scope {}", .0.as_str())]
    Scope(Scope),
    #[error("the credentials do not allow this resource")]
    Resource,
    /// By the word of whoever authorizes.
    #[error("there is no such thing")]
    NotThere,
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
        let watchable = resources.map_or(Watchable::All, |resources| Watchable::Only(patterns(resources)));
        Self { project, subject, scopes, watchable }
    }

    /// Fails without `scope`; `admin` includes all that concerns its project.
    pub fn require(&self, scope: Scope) -> Result<(), AccessError> {
        let included = scope != Scope::Operator && self.scopes.contains(&Scope::Admin);
        if included || self.scopes.contains(&scope) { Ok(()) } else { Err(AccessError::Scope(scope)) }
    }

    /// Whether the credential itself allows `resource`: for lists, of which each entry cannot be asked about.
    pub fn may_watch(&self, resource: &ResourcePath) -> bool {
        match &self.watchable {
            _ if self.is_admin() => true,
            Watchable::All => true,
            Watchable::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(resource)),
            Watchable::Asked(_) => false,
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
            watchable: Watchable::All,
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
            Err(JwtError::Expired) => return Err(AccessError::Expired),
            Err(error) => return Err(refused(&error)),
        };
        let scopes = claims.scope.split_ascii_whitespace().filter_map(Scope::parse);
        let scopes = scopes.filter(|scope| is_operator || *scope != Scope::Operator).collect();
        well_named(Principal::new(claims.project, claims.sub, scopes, claims.resources.as_deref()))
    }

    /// Of a token that is none of this server's own.
    async fn principal_of_issuer(&self, token: &str) -> Result<Principal, AccessError> {
        let Some(issuer) = &self.callers.issuer else { return self.principal_of_authorizer(token).await };
        let bearer = match issuer.verify(token, self.now()).await {
            Ok(bearer) => bearer,
            Err(IssuerError::Unavailable) => return Err(AccessError::Unavailable),
            // What no issuer signs may be known elsewhere.
            Err(IssuerError::Token(_)) => return self.principal_of_authorizer(token).await,
            Err(IssuerError::Claims(ClaimsError::Expired)) => return Err(AccessError::Expired),
            Err(IssuerError::Claims(error)) => return Err(refused(&error)),
        };
        let scopes = outside_scopes(&bearer.scopes);
        let named = |resources: &[String]| {
            Principal::new(bearer.project.clone(), bearer.subject.clone(), scopes.clone(), Some(resources))
        };
        let principal = match (&bearer.resources, &self.callers.authorizer, Credential::new(token)) {
            (None, Some(_), Some(credential)) => {
                Principal { watchable: Watchable::Asked(credential), ..named(&[]) }
            }
            // Whoever is not told what they may watch may watch nothing.
            (resources, ..) => named(resources.as_deref().unwrap_or_default()),
        };
        well_named(principal)
    }

    /// Of a credential that nobody here can read.
    async fn principal_of_authorizer(&self, token: &str) -> Result<Principal, AccessError> {
        let (Some(authorizer), Some(credential)) = (&self.callers.authorizer, Credential::new(token)) else {
            return Err(refused(&JwtError::Invalid));
        };
        let question =
            Question { credential: &credential, caller: None, action: Action::Identify, resource: None };
        let granted = authorizer.ask(question).await?;
        let (Some(project), Some(subject)) = (granted.project, granted.subject) else {
            tracing::warn!("whoever authorizes lets a caller in without a project and a subject");
            return Err(AccessError::Unavailable);
        };
        let scopes = granted.scopes.map_or(BTreeSet::from([Scope::Channels]), |words| outside_scopes(&words));
        well_named(Principal { project, subject, scopes, watchable: Watchable::Asked(credential) })
    }

    /// Fails unless the caller may do this to `resource`.
    pub(super) async fn require_resource(
        &self,
        principal: &Principal,
        action: Action,
        resource: &ResourcePath,
    ) -> Result<(), AccessError> {
        match (&principal.watchable, &self.callers.authorizer) {
            (Watchable::Asked(credential), Some(authorizer)) if !principal.is_admin() => {
                let caller = Some((principal.project.as_str(), principal.subject.as_str()));
                let question = Question { credential, caller, action, resource: Some(resource) };
                authorizer.ask(question).await.map(drop)
            }
            _ if principal.may_watch(resource) => Ok(()),
            _ => Err(AccessError::Resource),
        }
    }
}

/// Nobody outside makes operators.
fn outside_scopes(words: &[String]) -> BTreeSet<Scope> {
    words.iter().filter_map(|word| Scope::parse(word)).filter(|scope| *scope != Scope::Operator).collect()
}

/// Others may name callers too, and no store holds every name.
fn well_named(principal: Principal) -> Result<Principal, AccessError> {
    let is_named = is_name(&principal.project) && is_name(&principal.subject);
    if is_named { Ok(principal) } else { Err(AccessError::Invalid) }
}

/// Why is for the log alone.
fn refused(reason: &dyn std::error::Error) -> AccessError {
    tracing::info!(reason = %reason, "a token was refused");
    AccessError::Invalid
}
