//! What the DNS says, under signatures, of the certificate at one host and port (RFC 6698, RFC 7671, RFC 7673).

use hickory_proto::rr::{Name, RData, RecordType};

use crate::dns::order::Candidate;
use crate::dns::query::{Asker, DnsAnswer, QueryFault};
use crate::stream::dane::{Association, Published};

/// What it says. DNS-11: asked only where what led here is `secure`; a question that fails leaves the host out, for whoever keeps the
/// answer back may have something to hide.
pub(super) async fn published(
    asker: &Asker,
    candidate: &Candidate,
    secure: bool,
) -> Result<Published, QueryFault> {
    let text = |name: &Name| name.to_ascii().trim_end_matches('.').to_owned();
    let named = candidate.secure || (candidate.itself && secure);
    let mut published =
        Published { host: named.then(|| text(&candidate.host).into()), ..Published::default() };
    if !secure {
        return Ok(published);
    }
    let (_, found) = found(asker, &candidate.host, candidate.port).await?;
    if found.secure {
        published.associations =
            found.records.iter().filter_map(read).flatten().take(MAX_ASSOCIATIONS).collect();
    }
    Ok(published)
}

/// The records, and the host at whose name they stand. RFC 7671 7: a name that stands for another is looked at in full first, then as
/// it is.
pub(super) async fn found(asker: &Asker, host: &Name, port: u16) -> Result<(Name, DnsAnswer), QueryFault> {
    let ask = async |host: &Name| {
        let host = host.to_ascii();
        let name = Name::from_ascii(format!("_{port}._tcp.{}.", host.trim_end_matches('.')));
        asker.ask(name.map_err(|_| QueryFault::Failed)?, RecordType::TLSA).await
    };
    let mut failed = None;
    match whole(asker, host).await {
        Ok(Some(whole)) => {
            let found = ask(&whole).await?;
            if found.secure && !found.records.is_empty() {
                return Ok((whole, found));
            }
        }
        Ok(None) => {}
        // Below a DNAME some resolvers have no answer to this question. What stands at the name itself counts all the same; that
        // nothing does, may be for want of what was kept back.
        Err(fault) => failed = Some(fault),
    }
    let found = ask(host).await?;
    match failed {
        Some(fault) if !found.secure || found.records.is_empty() => Err(fault),
        _ => Ok((host.clone(), found)),
    }
}

/// What a record associates; none within, if it cannot be used (RFC 7671 4).
pub(super) fn read(data: &RData) -> Option<Option<Association>> {
    match data {
        RData::TLSA(record) => Some(Association::read(
            record.cert_usage.into(),
            record.selector.into(),
            record.matching.into(),
            &record.cert_data,
        )),
        _ => None,
    }
}

/// The name that this one stands for in the end, if it is an alias all the way under signatures.
async fn whole(asker: &Asker, host: &Name) -> Result<Option<Name>, QueryFault> {
    let mut last = None;
    for _ in 0..MAX_CNAMES {
        let found = asker.ask(last.as_ref().unwrap_or(host).clone(), RecordType::CNAME).await?;
        match found.records.into_iter().next() {
            Some(RData::CNAME(target)) if found.secure => last = Some(target.0.to_lowercase()),
            Some(_) => return Ok(None),
            None => return Ok(last),
        }
    }
    Err(QueryFault::Failed)
}

/// TLSA records that are looked at: more than anybody publishes, for which of them come first is left to chance.
const MAX_ASSOCIATIONS: usize = 128;
/// DNS-04.
const MAX_CNAMES: usize = 8;
