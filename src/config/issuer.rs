//! The settings of an external issuer, which make sense together or not at all.

use url::Url;

use super::{Reader, error::Problem, values};
use crate::domain::issuer::{IssuerRules, ProjectOf, ScopeMap};

/// What an issuer's words may grant.
const SCOPES: [&str; 3] = ["channels", "events", "admin"];
/// Only of use beside `JWKS_URL`.
const DEPENDENT: [&str; 3] = ["JWT_ISSUER", "JWT_AUDIENCE", "JWT_PROJECT"];

/// Whose tokens are taken beside those of the server's own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    pub jwks_url: Url,
    pub rules: IssuerRules,
}

impl Reader<'_> {
    /// The outer option tells whether it could be read, the inner one whether there is one.
    #[expect(clippy::option_option, reason = "could it be read, and was it given, are two questions")]
    pub(super) fn issuer(&mut self) -> Option<Option<IssuerConfig>> {
        let jwks_url = self.optional("JWKS_URL", values::service_url);
        let own = values::name;
        let issuer = self.optional("JWT_ISSUER", own);
        let audience = self.optional("JWT_AUDIENCE", own);
        let project = self.optional("JWT_PROJECT", own);
        let project_claim = self.required("JWT_PROJECT_CLAIM", own);
        let subject_claim = self.required("JWT_SUBJECT_CLAIM", own);
        let scope_claim = self.required("JWT_SCOPE_CLAIM", own);
        let scopes = self.optional("JWT_SCOPE_MAP", |text| ScopeMap::parse(text, &SCOPES));
        let (jwks_url, issuer, audience, project) = (jwks_url?, issuer?, audience?, project?);
        let Some(jwks_url) = jwks_url else {
            let given = [&issuer, &audience, &project].map(Option::is_some);
            let useless = DEPENDENT.into_iter().zip(given).filter(|(_, given)| *given);
            let before = self.problems.len();
            self.problems.extend(useless.map(|(key, _)| Problem::WithoutJwksUrl { key }));
            return (self.problems.len() == before).then_some(None);
        };
        // A key that signs for many must not let in what it signed for others.
        for (key, missing) in [("JWT_ISSUER", issuer.is_none()), ("JWT_AUDIENCE", audience.is_none())] {
            if missing {
                self.problems.push(Problem::RequiredByJwksUrl { key });
            }
        }
        let rules = IssuerRules {
            issuer: issuer?,
            audience: audience?,
            project: match project {
                Some(project) => ProjectOf::Fixed(project),
                None => ProjectOf::Claim(project_claim?),
            },
            subject_claim: subject_claim?,
            scope_claim: scope_claim?,
            scopes: scopes?.unwrap_or_default(),
        };
        Some(Some(IssuerConfig { jwks_url, rules }))
    }
}
