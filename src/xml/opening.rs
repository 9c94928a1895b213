//! Who opens a stream on a listener that clients and servers share: the content namespace of the header tells.
//!
//! Each of the two gets the same octets as on a listener of its own, and whose header it is has the stream. Nothing else is
//! looked at, and whatever is no header of a client's is for servers to hear about.

use super::framer::{Framer, Token};
use super::{Content, Limits};

/// The beginning of a stream, until it is known whose it is.
#[derive(Debug)]
pub struct StreamStart {
    client: Framer,
    server: Framer,
    /// What the servers' reading came to.
    server_done: bool,
}

impl StreamStart {
    /// Nothing has come yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            client: Framer::new(limits.clone(), Content::Client),
            server: Framer::new(limits.clone(), Content::Server),
            server_done: false,
        }
    }

    /// Takes the next octets; the content namespace once it is known. It is at the latest when as many octets have come as a
    /// header may have.
    pub fn feed(&mut self, octets: &[u8]) -> Option<Content> {
        self.client.feed(octets);
        self.server.feed(octets);
        // Both read the same up to the last octet of the header; then one of them takes it and the other refuses it.
        match self.client.next() {
            Some(Token::Header(_)) => return Some(Content::Client),
            Some(_) => self.server_done = true,
            None => {}
        }
        self.server_done |= self.server.next().is_some();
        self.server_done.then_some(Content::Server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.example' version='1.0'>";

    /// What is found, and after how many octets.
    fn found(octets: &[u8], portion: usize) -> Option<(Content, usize)> {
        let mut opening = StreamStart::new(&Limits::before_proof());
        let mut fed = 0;
        for octets in octets.chunks(portion) {
            fed += octets.len();
            if let Some(content) = opening.feed(octets) {
                return Some((content, fed));
            }
        }
        None
    }

    // ACC-01: the namespace of the header and nothing else, however it is cut.
    #[test]
    fn the_namespace_of_the_header_tells() {
        let server = CLIENT.replace("jabber:client", "jabber:server");
        for portion in [1, 2, 7, 4096] {
            assert_eq!(found(CLIENT.as_bytes(), portion).unwrap().0, Content::Client);
            assert_eq!(found(server.as_bytes(), portion).unwrap().0, Content::Server);
        }
        assert_eq!(found(CLIENT.as_bytes(), 1), Some((Content::Client, CLIENT.len())));
        let begun = CLIENT.strip_suffix('>').unwrap();
        assert_eq!(found(begun.as_bytes(), 1), None, "no guess before the end of the header");
    }

    // What is no stream of a client's is answered as on a listener for servers; nothing is waited for beyond the limit.
    #[test]
    fn whatever_is_no_header_of_a_client_is_for_servers() {
        let names_client = CLIENT.replace("to='", "to='jabber:client' from='");
        let names_client = names_client.replace("xmlns='jabber:client'", "xmlns='jabber:server'");
        let other = CLIENT.replace("jabber:client", "jabber:other");
        let endless = format!("<stream:stream a='{}", "x".repeat(5000));
        for octets in
            [names_client.as_str(), &other, &endless, "GET / HTTP/1.1\r\n\r\n", "\u{0}\u{0}", "<a/>", "<!--"]
        {
            assert_eq!(
                found(octets.as_bytes(), 1).map(|(content, _)| content),
                Some(Content::Server),
                "{octets}"
            );
        }
    }
}
