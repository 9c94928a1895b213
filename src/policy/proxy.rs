//! The proxy that calls to the world go through, as rules and routes name it: `via`.
//!
//! It is read here and asked in [`crate::net::via`]. What may be dialled is judged before, and alike with a proxy and without.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A proxy that connections to the world go through.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    kind: ProxyKind,
    host: String,
    port: u16,
    login: Option<(String, String)>,
}

/// What a proxy speaks, and who looks host names up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// HTTP CONNECT, with the names that a route has.
    Http,
    /// SOCKS5, with addresses.
    Socks5,
    /// SOCKS5, with the names that a route has.
    Socks5h,
}

impl Proxy {
    /// What to write, for whoever wrote something else.
    pub const REMEDY: &'static str = "write it like \"socks5://10.0.0.9:1080\" or \"http://10.0.0.9:3128\"";

    /// Reads `socks5://`, `socks5h://` or `http://`, then the login if there is one, the host and the port.
    ///
    /// # Errors
    /// What is wrong with it, in words that hold nothing of the login.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let kind = match scheme {
            "socks5" => ProxyKind::Socks5,
            "socks5h" => ProxyKind::Socks5h,
            "http" => ProxyKind::Http,
            _ => return Err("the scheme is none of socks5, socks5h and http"),
        };
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, rest),
        };
        let login = match login.map(|login| login.split_once(':')) {
            None => None,
            Some(Some((user, password))) if !user.is_empty() => Some((decoded(user)?, decoded(password)?)),
            Some(_) => return Err("the login is no user, colon and password"),
        };
        if login.as_ref().is_some_and(|(user, password)| user.len() > LOGIN || password.len() > LOGIN) {
            return Err("user or password has more than 255 octets");
        }
        let (host, port) = place(authority.strip_suffix('/').unwrap_or(authority))?;
        Ok(Self { kind, host, port, login })
    }

    /// Where it is: an address, or a name to be looked up.
    pub fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Its address, where it is not known by a name.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse::<IpAddr>().ok()?, self.port))
    }

    /// Whether it looks host names up, which then are not looked up here.
    pub const fn looks_up(&self) -> bool {
        !matches!(self.kind, ProxyKind::Socks5)
    }

    /// What it speaks.
    pub const fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// The user and the password that it wants.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

/// RFC 3986 2.1: octets written as `%40`. A sign that no two digits follow is meant as it is, as curl takes it.
fn decoded(text: &str) -> Result<String, &'static str> {
    let digit = |octet: Option<&u8>| octet.and_then(|octet| char::from(*octet).to_digit(16));
    let (octets, mut at) = (text.as_bytes(), 0);
    let mut plain = Vec::with_capacity(octets.len());
    while let Some(octet) = octets.get(at) {
        let digits =
            (*octet == b'%').then(|| digit(octets.get(at + 1)).zip(digit(octets.get(at + 2)))).flatten();
        let value = digits.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        plain.push(value.unwrap_or(*octet));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).map_err(|_| "the login is no UTF-8")
}

/// Host and port.
fn place(authority: &str) -> Result<(String, u16), &'static str> {
    const UNREADABLE: &str = "host and port cannot be read";
    let bracketed = authority.starts_with('[');
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(UNREADABLE)?;
            host.parse::<Ipv6Addr>().map_err(|_| UNREADABLE)?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if host.is_empty() {
        return Err("it has no host");
    }
    if !bracketed && !host.bytes().all(named) {
        return Err(UNREADABLE);
    }
    let port = port.filter(|port| !port.is_empty()).ok_or("it has no port")?;
    let port = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let port = port.and_then(|port| port.parse().ok()).ok_or(UNREADABLE)?;
    if port == 0 { Err("it has no port") } else { Ok((host.to_owned(), port)) }
}

/// As it was written, without the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Socks5h => "socks5h",
            ProxyKind::Http => "http",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Never with the login.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 1929 2: octets of a user's name and of a password.
const LOGIN: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_proxy_is_told_without_its_login() {
        let table = [
            ("10.0.0.9:1080", "it has no scheme"),
            ("ftp://10.0.0.9:1", "the scheme is none of"),
            ("socks5://10.0.0.9", "it has no port"),
            ("socks5://10.0.0.9:", "it has no port"),
            ("socks5://10.0.0.9:0", "it has no port"),
            ("socks5://[::1]", "it has no port"),
            ("socks5://:1", "it has no host"),
            ("socks5://a b:1", "cannot be read"),
            ("socks5://a:+1", "cannot be read"),
            ("socks5://a:65536", "cannot be read"),
            ("socks5://a/b:1", "cannot be read"),
            ("socks5://[::g]:1", "cannot be read"),
            ("socks5://::1:1080", "cannot be read"),
            ("socks5://s3cret@10.0.0.9:1", "no user, colon and password"),
        ];
        for (text, words) in table {
            let said = Proxy::parse(text).unwrap_err();
            assert!(said.contains(words) && !said.contains("s3cret"), "{text}: {said}");
        }
        assert!(Proxy::parse("socks5://u:%ff@10.0.0.9:1").unwrap_err().contains("UTF-8"));
        let login =
            |text| Proxy::parse(text).map(|proxy| proxy.login().map(|(u, p)| format!("{u} {p}"))).unwrap();
        assert_eq!(login("socks5://lu:p%40x%3Ay@10.0.0.9:1").as_deref(), Some("lu p@x:y"));
        assert_eq!(login("http://a%3ab:1%2@10.0.0.9:1").as_deref(), Some("a:b 1%2"));
        let shown = |text| Proxy::parse(text).map(|proxy| format!("{proxy} {proxy:?}")).unwrap();
        assert_eq!(shown("http://u:s3c@ret@proxy.example:3128/"), ["http://proxy.example:3128"; 2].join(" "));
        assert_eq!(shown("socks5h://[2001:db8::9]:1080"), ["socks5h://[2001:db8::9]:1080"; 2].join(" "));
    }
}
