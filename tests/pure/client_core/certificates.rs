//! Clients that show a certificate.

use super::*;

/// Params of relays whose clients must show a certificate for their account.
fn strict() -> gatehouse::relay::RelayParams {
    let mut relays = relays();
    relays.clients.get_mut(&domain("hall.example")).unwrap().certificate =
        CertificateTerms { demand: Demand::Require, by: CertificateName::XmppAddress };
    relays
}

/// A client with a certificate for that account, that has heard these features of its server.
fn certified(account: &str, features: &str) -> Stage {
    let mut channel = secured("hall.example", &["nobody.example"]);
    let shown = channel.certificate.as_mut().unwrap();
    shown.names = vec![gatehouse::stream::PresentedName::Xmpp(format!("{account}@hall.example"))];
    shown.of_client = Some(domain("hall.example"));
    let mut stage = Stage::new(strict(), any(), Flow::C2s, Some(channel));
    stage.hears(NEAR, &hello());
    stage.connected(FarId(1), None);
    stage.said(FAR);
    stage.hears(FAR, &greeting("B-1", features));
    stage
}

// C2S-15: "the account that the server behind names at bind (also by SASL2, Bind 2, resumption) must be the certificate's, else
// `not-authorized` before any stanza passes": the client does not even hear the address.
#[test]
fn the_account_that_the_server_names_must_be_that_of_the_certificate() {
    const TOKEN: &str = "OAUTHBEARER";
    let oauth = format!(
        "<auth xmlns='{SASL}' mechanism='{TOKEN}'>{}</auth>",
        STANDARD.encode("n,,\u{1}auth=x\u{1}\u{1}")
    );
    let in_by_token = |account: &str| {
        let mut stage = certified(account, &mechanisms(&[TOKEN]));
        stage.hears(NEAR, &oauth);
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &hello());
        stage.hears(FAR, &greeting("B-2", &bound_features()));
        stage.said(NEAR);
        stage
    };
    for (account, fits) in [("alice", true), ("bob", false)] {
        // By a bind, where the login has not shown whose it is.
        let mut stage = in_by_token(account);
        stage.hears(NEAR, &bind("b1"));
        stage.hears(FAR, &bind_result("b1", ME));
        if fits {
            assert!(stage.said(NEAR).contains(ME) && stage.relay.is_bound());
        } else {
            let said = stage.said(NEAR);
            assert!(!said.contains("alice") && said.contains("<not-authorized"), "{said}");
            assert!(!stage.relay.is_bound());
        }
        // By SASL2 with Bind 2, with a session that goes on, and alone.
        for inside in
            ["<bind xmlns='urn:xmpp:bind:0'/>", "<resume xmlns='urn:xmpp:sm:3' h='0' previd='p'/>", ""]
        {
            let mut stage = certified(account, &modern());
            stage.hears(
                NEAR,
                // The password is that of the certificate's account; the server has another name for it.
                &authenticate("PLAIN", inside).replace(
                    &STANDARD.encode("\0alice\0secret"),
                    &STANDARD.encode(format!("\0{account}\0secret")),
                ),
            );
            stage.step(NEAR, Input::Tried(Ok(())));
            stage.said(NEAR);
            let (identifier, bound) = match inside {
                "" => ("alice@hall.example", ""),
                resume if resume.contains("resume") => {
                    ("alice@hall.example", "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='p'/>")
                }
                _ => (ME, "<bound xmlns='urn:xmpp:bind:0'/>"),
            };
            // What the client hears of a login waits for the features that follow.
            let features = format!("<stream:features>{}</stream:features>", bound_features());
            stage.hears(FAR, &format!("{}{features}", success(identifier, bound)));
            let said = stage.said(NEAR);
            assert_eq!(said.contains("<success"), fits, "{account} {inside}: {said}");
            assert_eq!(said.contains("<not-authorized"), !fits, "{account} {inside}: {said}");
        }
    }
    // A session that is resumed for a login of which nobody has said whose it is: it may be anybody's.
    let mut stage = in_by_token("alice");
    stage.hears(NEAR, "<resume xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    stage.hears(FAR, "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    assert_eq!(ended(&mut stage), "not-authorized");
    // And for one that has shown it.
    let mut stage = certified("alice", &mechanisms(&["PLAIN"]));
    logs_in(&mut stage, &hello());
    stage.said(NEAR);
    stage.hears(NEAR, "<resume xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    stage.hears(FAR, "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='p'/>");
    assert!(stage.said(NEAR).contains("<resumed") && stage.relay.is_bound());
}

// C2S-11, C2S-15: the password of another is not even tried.
#[test]
fn a_certificate_is_no_help_in_guessing_the_password_of_another() {
    let mut stage = certified("alice", &mechanisms(&["PLAIN"]));
    stage.said(FAR);
    stage.hears(NEAR, &plain("bob"));
    assert!(attempts(&mut stage).is_empty());
    assert!(!stage.said(FAR).contains("<auth"), "the server hears nothing of it");
    let said = stage.said(NEAR);
    assert!(said.contains(&format!("<failure xmlns='{SASL}'><not-authorized/></failure>")), "{said}");
    assert_eq!(logins(&stage), [(None, None, Outcome::Deny, Reason::ClientCertificateOther)]);
}
