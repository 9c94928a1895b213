//! White space for a server behind that may put off a tag that it has.

use super::*;

const SOON: Duration = Duration::from_millis(110);

/// What comes within that time; nothing where nothing does.
async fn within(pipe: &mut DuplexStream, time: Duration) -> String {
    let mut octets = [0; 4096];
    match tokio::time::timeout(time, pipe.read(&mut octets)).await {
        Ok(read) => String::from_utf8_lossy(&octets[..read.unwrap()]).into_owned(),
        Err(_) => String::new(),
    }
}

/// A message to the warden's server with an attribute of that length; clients do not say who they are.
fn message_of(flow: Flow, length: usize) -> String {
    let from = if flow == Flow::C2s { "" } else { " from='a@friend.example'" };
    format!("<message to='b@hall.example'{from}><x xmlns='urn:x' v='{:length$}'/></message>", "v")
}

// BE-12: towards the server behind, in either flow that leads there, once, and behind what is long; nobody else hears it.
#[tokio::test(start_paused = true)]
async fn a_server_behind_hears_white_space_behind_what_is_long() {
    for flow in [Flow::S2sIn, Flow::C2s] {
        let (mut play, mut server) = match flow {
            Flow::C2s => clients::bound(ROOM).await,
            _ => friend(ROOM).await,
        };
        say(&mut play.near, &message_of(flow, 100)).await;
        hear(&mut server, "</message>").await;
        assert_eq!(within(&mut server, SOON * 10).await, "", "{flow:?}: a short one is followed by nothing");
        say(&mut play.near, &message_of(flow, 1500)).await;
        let heard = hear(&mut server, "</message>").await;
        assert!(heard.ends_with("</message>"), "{flow:?}: {heard}");
        let blank = within(&mut server, SOON).await;
        assert!(blank.len() > 1400 && blank.trim().is_empty(), "{flow:?}: {blank:?}");
        assert_eq!(within(&mut server, SOON * 10).await, "", "{flow:?}: once");
        if flow == Flow::C2s {
            say(&mut server, &message_of(flow, 1500)).await;
            assert!(hear(&mut play.near, "</message>").await.ends_with("</message>"));
        }
        assert_eq!(within(&mut play.near, SOON * 10).await, "", "{flow:?}: outside");
    }
}
