//! The laws of everything that reads an unproven peer's octets, as assertions over any input: run by the fuzz targets, and by
//! `tests/pure/fuzz_corpus.rs` on stable. The laws of framing are in [`xml`].

pub mod xml;

mod address;
mod certificate;
mod dialback;
mod dns;
mod features;
mod files;
mod header;
mod hello;
mod proxy;
mod relay;
mod sasl;

pub use address::jid;
pub use certificate::certificate;
pub use dialback::dialback;
pub use dns::dns;
pub use features::features;
pub use files::{config, folder, policy};
pub use header::header;
pub use hello::hello;
pub use proxy::proxy;
pub use relay::{AGAINST, PASSED, relay, relay_client};
pub use sasl::sasl;

use gatehouse::xml::{Content, Frame, Framer, Limits, Token};

/// The first-level elements that the framer passes in an open stream of that content.
fn frames(content: Content, body: &[u8]) -> Vec<Frame> {
    within(Limits::before_proof(), content, body)
}

fn within(limits: Limits, content: Content, body: &[u8]) -> Vec<Frame> {
    let open = match content {
        Content::Client => gatehouse::stream::client::opening(None, None, None, None),
        Content::Server => gatehouse::stream::opening(None, None, None, true),
    };
    let mut framer = Framer::new(limits, content);
    framer.feed(&open);
    framer.feed(body);
    let tokens = std::iter::from_fn(|| framer.next());
    tokens.filter_map(|token| if let Token::Element(frame) = token { Some(frame) } else { None }).collect()
}

/// The one element that we wrote: in canonical form, and framed as it is.
fn framed(content: Content, text: &str) -> Frame {
    assert_eq!(xml::canonical(text), Ok(()), "not canonical: {text}");
    let large = Limits { value: 1 << 16, ..Limits::default() };
    match within(large, content, text.as_bytes()).as_slice() {
        [frame] if frame.octets() == text => frame.clone(),
        other => panic!("what we wrote is not framed again: {text} {other:?}"),
    }
}
