//! Identity providers: there are pages to sign in by, and nobody whom they speak for has the name of somebody else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Documents, document_path};
use crate::config::HttpsListener;
use crate::config::authority::{CertificateAuthority, PrincipalRule, UNDER};
use crate::config::model::{Factor, Name, Role};
use crate::config::problem::At;
use crate::config::provider::{IdentityProvider, LoginSettings};
use crate::config::raw::{Document, Kind, RawBastion, RawProvider, Spec};

const REMEMBER: Duration = Duration::from_secs(12 * 3600);

impl Documents<'_> {
    pub(super) fn providers(
        &self,
        authorities: &BTreeMap<Name, CertificateAuthority>,
    ) -> BTreeMap<Name, IdentityProvider> {
        let has_pages = self.of(Kind::Bastion).any(
            |document| matches!(&document.spec, Some(Spec::Bastion(spec)) if spec.login.is_some()),
        );
        let mut providers = BTreeMap::new();
        for (document, spec) in self.provider_specs() {
            if !has_pages && !self.incomplete {
                self.report(
                    &document.at,
                    "people sign in by pages of this daemon's, and it serves none; give the Bastion a 'login'",
                );
            }
            if let Some(provider) = provider(document, spec) {
                self.whom_it_speaks_for(document, spec, &provider, authorities);
                providers.insert(provider.name.clone(), provider);
            }
        }
        providers
    }

    fn whom_it_speaks_for(
        &self,
        document: &Document,
        spec: &RawProvider,
        provider: &IdentityProvider,
        authorities: &BTreeMap<Name, CertificateAuthority>,
    ) {
        let rules: Vec<&At<PrincipalRule>> = spec.identities.iter().flatten().collect();
        self.unlisted_have_names_of_their_own(document, &rules);
        for rule in rules.iter().filter(|rule| !rule.value.listed) {
            if !provider.any_key {
                self.report(
                    &rule.at,
                    "whoever is listed nowhere has no key of their own that could prove them; write 'anyKey: true', or 'listed: true' here",
                );
            }
        }
        let other = authorities.get(&provider.name);
        if provider.speaks_for_unlisted()
            && other.is_some_and(CertificateAuthority::speaks_for_unlisted)
        {
            self.report(
                &document.name.at,
                format!(
                    "a CertificateAuthority is named '{0}' too, and both would call people '{0}{UNDER}NAME'; rename one",
                    provider.name
                ),
            );
        }
    }

    /// A factor that nobody can prove keeps everybody out, and nobody writes that on purpose.
    pub(super) fn signing_on_is_possible(
        &self,
        roles: &BTreeMap<Name, Role>,
        providers: &BTreeMap<Name, IdentityProvider>,
    ) {
        if !providers.is_empty() || self.of(Kind::IdentityProvider).next().is_some() {
            return;
        }
        for role in roles.values() {
            if role.require.contains(&Factor::Oidc)
                && let Some(document) = self.get(Kind::Role, &role.name)
                && !self.incomplete
            {
                self.report(
                    &document.at,
                    format!(
                        "the role '{}' requires oidc, and there is no IdentityProvider; define one",
                        role.name
                    ),
                );
            }
        }
    }

    pub(super) fn login(&self, document: &Document, spec: &RawBastion) -> Option<LoginSettings> {
        let raw = &spec.login.as_ref()?.value;
        let path = |at: &At<String>| document_path(document, &at.value);
        Some(LoginSettings {
            listener: HttpsListener {
                address: raw.listen.as_ref()?.value,
                certificate: path(raw.certificate.as_ref()?),
                key: path(raw.key.as_ref()?),
            },
            public_url: raw.public_url.as_ref()?.value.clone(),
        })
    }
}

fn provider(document: &Document, spec: &RawProvider) -> Option<IdentityProvider> {
    let path = |at: &At<String>| document_path(document, &at.value);
    let identities = match &spec.identities {
        Some(rules) => rules.iter().map(|rule| rule.value.clone()).collect(),
        None => vec![PrincipalRule {
            prefix: String::new(),
            suffix: String::new(),
            listed: true,
        }],
    };
    Some(IdentityProvider {
        name: document.name.value.clone(),
        issuer: spec.issuer.as_ref()?.value.clone(),
        client_id: spec.client_id.as_ref()?.value.clone(),
        client_secret: spec.client_secret_file.as_ref().map(path),
        certificate_authority: spec.certificate_authority.as_ref().map(path),
        scopes: spec.scopes.iter().map(|at| at.value.clone()).collect(),
        username_claim: spec
            .username_claim
            .as_ref()
            .map_or_else(|| "sub".to_owned(), |at| at.value.clone()),
        groups_claim: spec.groups_claim.as_ref().map(|at| at.value.clone()),
        identities,
        any_key: spec.any_key.as_ref().is_some_and(|at| at.value),
        remember: spec.remember.as_ref().map_or(REMEMBER, |at| at.value),
    })
}
