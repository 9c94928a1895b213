//! One side of a stream, as the commands hold it that look at servers.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::jid::Domain;
use crate::run::BoxIo;
use crate::stream::fault::Due;
use crate::stream::features;
use crate::xml::{Content, Framer, Header, Limits, Token, names};

/// One side of a stream, read with patience but not for ever.
pub(super) struct Talk {
    pub(super) io: BoxIo,
    pub(super) framer: Framer,
    patience: Duration,
}

impl Talk {
    pub(super) fn new(io: BoxIo, content: Content, patience: Duration) -> Self {
        Self { io, framer: Framer::new(Limits::before_proof(), content), patience }
    }

    pub(super) async fn say(&mut self, octets: &[u8]) -> Result<(), String> {
        let said = async {
            self.io.write_all(octets).await?;
            self.io.flush().await
        };
        match tokio::time::timeout(self.patience, said).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_late) => Err("the server takes no octets".to_owned()),
        }
    }

    pub(super) async fn hear(&mut self) -> Result<Token, String> {
        let heard = async {
            loop {
                match self.framer.next() {
                    Some(Token::Keepalive | Token::Text) => {}
                    Some(Token::Violation(v)) => {
                        return Err(format!("the server breaks the rules of XML: {}", v.reason().words()));
                    }
                    Some(Token::End) => return Err("the server closes the stream".to_owned()),
                    Some(Token::Element(frame)) if frame.is(names::STREAMS, "error") => {
                        let condition =
                            frame.tree().elements().next().map(|e| e.name.clone()).unwrap_or_default();
                        return Err(format!(
                            "the server ends the stream: {}",
                            crate::run::observe::capped(&condition)
                        ));
                    }
                    Some(token) => return Ok(token),
                    None => {
                        let mut octets = [0; 4096];
                        match self.io.read(&mut octets).await {
                            Ok(0) => return Err("the server closes the connection".to_owned()),
                            Ok(n) => self.framer.feed(octets.get(..n).unwrap_or_default()),
                            Err(error) => return Err(format!("the connection broke: {error}")),
                        }
                    }
                }
            }
        };
        match tokio::time::timeout(self.patience, heard).await {
            Ok(heard) => heard,
            Err(_late) => Err("the server is silent".to_owned()),
        }
    }

    /// The same, and how far it came if it does not.
    pub(super) async fn hear_due(&mut self, due: Due) -> Result<Token, String> {
        self.hear().await.map_err(|trouble| format!("{trouble}: {}", due.words()))
    }

    /// Headers both ways, and the features if the version promises them.
    pub(super) async fn greet(
        &mut self,
        from: Option<&Domain>,
        to: &Domain,
    ) -> Result<(Header, features::Offered), String> {
        let ours = Header {
            from: from.map(ToString::to_string),
            to: Some(to.to_string()),
            version: Some((1, 0)),
            dialback: true,
            ..Header::new(Content::Server)
        };
        self.say(&ours.write_open()).await?;
        let Token::Header(header) = self.hear_due(Due::Header).await? else {
            return Err("no stream header came".to_owned());
        };
        if header.version.is_none_or(|(major, _)| major < 1) {
            return Ok((header, features::Offered::default()));
        }
        match self.hear_due(Due::Features).await? {
            Token::Element(frame) if frame.is(names::STREAMS, "features") => {
                Ok((header, features::read(&frame.tree())))
            }
            _ => Err("no stream features came".to_owned()),
        }
    }

    /// As far as the octet before TLS; and what was offered until then.
    pub(super) async fn starttls(
        &mut self,
        from: Option<&Domain>,
        to: &Domain,
    ) -> Result<features::Offered, String> {
        let (_, offered) = self.greet(from, to).await?;
        if !offered.starttls {
            return Err(
                "STARTTLS is not offered: TLS is off there, or this is no XMPP server port".to_owned()
            );
        }
        self.say(format!("<starttls xmlns='{}'/>", names::TLS).as_bytes()).await?;
        match self.hear_due(Due::Proceed).await? {
            Token::Element(frame) if frame.is(names::TLS, "proceed") => match self.framer.is_empty() {
                true => Ok(offered),
                // TLS-06: the gateway takes no octet that came in clear for one that came through TLS.
                false => Err("octets come in clear behind <proceed/>, where TLS is due: \
                     somebody on the way may have put them there, or the server is broken"
                    .to_owned()),
            },
            _ => Err("the server takes back its offer of STARTTLS".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // TLS-06: what comes in clear behind <proceed/> is refused, as by the gateway itself.
    #[tokio::test]
    async fn octets_in_clear_behind_proceed_are_no_tls() {
        let remote = Domain::parse("friend.example").unwrap();
        let (xml, tls) = (names::STREAMS, names::TLS);
        for (behind, taken) in [("", true), ("<stream:features/>", false), ("<iq", false)] {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let said = format!(
                "<stream:stream xmlns='jabber:server' xmlns:stream='{xml}' version='1.0' id='i' from='friend.example'>\
                 <stream:features><starttls xmlns='{tls}'/></stream:features><proceed xmlns='{tls}'/>{behind}"
            );
            theirs.write_all(said.as_bytes()).await.unwrap();
            let mut talk = Talk::new(Box::new(ours), Content::Server, Duration::from_secs(5));
            let done = talk.starttls(None, &remote).await;
            assert_eq!(done.is_ok(), taken, "{behind}: {done:?}");
            assert!(taken || done.unwrap_err().contains("in clear"), "{behind}");
        }
    }
}
