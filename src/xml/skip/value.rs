//! Values of attributes in an element that is passed over: what is kept of them, and references in them.

use super::super::content::reference;
use super::super::{Rule, Violation};
use super::{MOST_ADDRESS, MOST_BODY, MOST_ID, MOST_WORD, Skip, State, Wanted, is_name, prefix_of};

impl Skip {
    pub(super) fn wants(&self) -> Wanted {
        match self.name.as_slice() {
            b"from" => Wanted::From,
            b"to" => Wanted::To,
            b"id" => Wanted::Id,
            b"type" => Wanted::Type,
            b"xml:lang" => Wanted::Lang,
            name => {
                let declared = name.strip_prefix(b"xmlns").unwrap_or(b"-");
                let prefix = declared.strip_prefix(b":").unwrap_or(declared);
                match prefix == prefix_of(self.innermost()) {
                    true => Wanted::Own,
                    false => Wanted::Nothing,
                }
            }
        }
    }

    pub(super) fn in_value(&mut self, octet: u8, quote: u8) -> Result<(), Violation> {
        match octet {
            b'<' => return Err(Violation::of(Rule::T2)),
            b if b == quote => return self.end_value(),
            b'&' => self.refer(Some(quote)),
            b'\n' if std::mem::take(&mut self.returned) => {}
            b'\t' | b'\n' | b'\r' => {
                self.returned = octet == b'\r';
                self.keep(b" ")?;
            }
            _ => {
                self.returned = false;
                self.keep(&[octet])?;
            }
        }
        self.this.value += 1;
        Ok(())
    }

    /// Takes this into the value, if it is wanted.
    pub(super) fn keep(&mut self, octets: &[u8]) -> Result<(), Violation> {
        let most = match self.wanted {
            Wanted::Nothing => return Ok(()),
            Wanted::From | Wanted::To => MOST_ADDRESS,
            Wanted::Id => MOST_ID,
            Wanted::Type | Wanted::Lang | Wanted::Own => MOST_WORD,
        };
        if self.value.len() + octets.len() <= most {
            self.value.extend_from_slice(octets);
        } else if most == MOST_ADDRESS {
            return Err(Violation::of(Rule::AddressLength));
        } else {
            // One octet more than fits tells that it is forgotten; no word that means something is as long.
            self.value.resize(most + 1, b' ');
        }
        Ok(())
    }

    pub(super) fn end_value(&mut self) -> Result<(), Violation> {
        self.state = State::Valued;
        self.count.value = self.count.value.max(self.this.value);
        if self.this.declares {
            self.count.namespace = self.count.namespace.max(self.this.value);
        }
        let text = || String::from_utf8(self.value.clone()).unwrap_or_default();
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::From => self.kept.from = Some(text()),
            Wanted::To => self.kept.to = Some(text()),
            Wanted::Id => self.kept.id = (self.value.len() <= MOST_ID).then(text),
            Wanted::Type => self.kept.type_ = Some(text()),
            Wanted::Lang => self.kept.lang = (self.value.len() <= MOST_WORD).then(text),
            Wanted::Own => self.own = Some(self.value == self.content.ns().as_bytes()),
        }
        Ok(())
    }

    pub(super) fn refer(&mut self, quote: Option<u8>) {
        self.returned = false;
        self.body.clear();
        self.state = State::Reference(quote);
    }

    /// In a reference (rules R1 and R2).
    pub(super) fn in_reference(&mut self, octet: u8, quote: Option<u8>) -> Result<(), Violation> {
        self.this.value += 1;
        match octet {
            b';' => {
                let c = reference(&self.body)?;
                if quote.is_some() {
                    self.keep(c.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
                self.state = quote.map_or(State::Text, State::Value);
            }
            b'<' if quote.is_some() => return Err(Violation::of(Rule::T2)),
            b if is_name(b) || b == b'#' => {
                self.body.push(octet);
                if self.body.len() > MOST_BODY {
                    // What is as long is no character, whatever may follow.
                    reference(&self.body)?;
                    return Err(Violation::of(Rule::R1));
                }
            }
            _ => return Err(Violation::of(Rule::R1)),
        }
        Ok(())
    }
}
