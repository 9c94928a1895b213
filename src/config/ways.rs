//! Routes beside each other and beside `source:`: what of them can never hold, or changes nothing.

use super::scalars::ScalarReader;
use super::settings::{HostedDomain, Route, WrittenTarget};
use super::spec::RouteSpec;
use crate::dns::Whom;
use crate::policy::{Finding, Pattern, Placed};

/// A route, and where it stands.
pub(super) type Stands<'a> = (Route, &'a Placed<RouteSpec>);

/// Tells what is to be looked at although nothing is wrong.
pub(super) fn look(routes: &[Stands<'_>], hosted: &[HostedDomain], reader: &mut ScalarReader) {
    for (route, at) in routes {
        if let Some((wider, stands)) =
            behind(routes, &route.domain).filter(|(wider, _)| leads_alike(wider, route))
        {
            let message = format!("the route of {} says what that of {} says", route.domain, wider.domain);
            let remedy = format!("remove one of them; the other stands at {}", reader.place(stands));
            reader.warn(at, message, remedy);
        }
        let straight = route.target.as_ref().filter(|_| route.via.is_none());
        let Some(WrittenTarget::Address(target)) = straight else { continue };
        for domain in hosted.iter().filter(|domain| !domain.source.is_empty()) {
            if domain.source.iter().all(|source| source.is_ipv4() != target.is_ipv4()) {
                let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
                let message = format!(
                    "{} has no {family} address to call from, so it never reaches {target}",
                    domain.name
                );
                reader.warn(at, message, format!("add an {family} address to its `source`, or a `via` here"));
            }
        }
    }
    let all_by_proxy = routes.iter().any(|(route, _)| route.domain == Whom::All)
        && routes.iter().all(|(route, _)| route.via.is_some());
    for domain in hosted.iter().filter(|domain| all_by_proxy && !domain.source.is_empty()) {
        let message =
            format!("`source` of {} changes nothing: every route leads through a proxy", domain.name);
        let remedy = "remove it; a proxy calls from an address of its own";
        reader.findings.push(Finding::warning(domain.place.clone(), message, remedy));
    }
}

/// The route that would hold for the same domains, if this one were not.
fn behind<'r, 'a>(routes: &'r [Stands<'a>], whom: &Whom) -> Option<&'r Stands<'a>> {
    let Whom::Named(pattern) = whom else { return None };
    let (Pattern::Below(domain) | Pattern::Exact(domain)) = pattern;
    let parents = std::iter::successors(domain.parent(), |name| name.split_once('.').map(|(_, rest)| rest));
    let below = |parent: &str| {
        let is = |whom: &Whom| matches!(whom, Whom::Named(Pattern::Below(name)) if name.as_str() == parent);
        routes.iter().find(|(route, _)| is(&route.domain))
    };
    parents.filter_map(below).next().or_else(|| routes.iter().find(|(route, _)| route.domain == Whom::All))
}

fn leads_alike(one: &Route, other: &Route) -> bool {
    (&one.target, &one.via, one.tls) == (&other.target, &other.via, other.tls)
}
