//! Long content, which goes from socket to socket by splice(2) where the system can do that.

use std::collections::HashMap;
use std::fs;

use crate::peer::{Peer, Talk, echoes, reply};
use crate::program::{Balancer, Chance};
use crate::wire::{Client, request};

/// Longer than what the buffers of two connections hold.
const LONG: usize = 16 << 20;

/// Pipes that the balancer has both ends of.
fn pipes(balancer: &Balancer) -> usize {
    let mut ends: HashMap<_, usize> = HashMap::new();
    for file in fs::read_dir(format!("/proc/{}/fd", balancer.program.id())).unwrap() {
        // One that was closed meanwhile is none.
        if let Ok(target) = fs::read_link(file.unwrap().path()) {
            *ends.entry(target).or_default() += 1;
        }
    }
    let is_pipe = |target: &std::path::Path| target.to_string_lossy().starts_with("pipe:");
    ends.iter()
        .filter(|(target, ends)| is_pipe(target) && **ends == 2)
        .count()
}

/// Answers `/long` with `content`, and echoes the rest.
fn long_or_echo(content: Vec<u8>) -> impl Fn(&mut Talk<'_>) -> std::io::Result<bool> + Send + Sync {
    move |talk| match &*talk.target {
        "/long" => {
            talk.wire.send(reply(200, &[], &content))?;
            Ok(true)
        }
        _ => echoes(talk),
    }
}

#[test]
fn long_content_arrives_whole_both_ways_whether_it_is_read_or_not() {
    for (word, most) in [("yes", 64), ("no", 0)] {
        let peer = Peer::start(echoes);
        let balancer = Balancer::before([&peer], &["--splice", word]);
        let content = Chance::new().base64(3 << 20);
        let mut client = balancer.client();
        // The connection goes on: not a byte too many was taken, nor one too few.
        for length in [content.len(), 1, 64 << 10, (1 << 20) + 1, 300_000] {
            let response = client.post("/", &content[..length]);
            assert!(response.content == content[..length], "{word}: {length}");
        }
        if cfg!(target_os = "linux") {
            let pipes = pipes(&balancer);
            assert!(
                pipes <= most && (pipes > 0) == (most > 0),
                "{word}: {pipes}"
            );
        }
    }
}

#[test]
fn who_leaves_in_the_middle_of_long_content_leaves_none_of_it_to_others() {
    let content = Chance::new().base64(LONG);
    let peer = Peer::start(long_or_echo(content.clone()));
    let balancer = Balancer::before([&peer], &[]);
    for _ in 0..3 {
        let mut leaves = balancer.client();
        leaves.ask("GET", "/long");
        assert!(leaves.wire.exactly(1000).is_ok());
        let mut stays = balancer.client();
        stays.ask("GET", "/long");
        assert!(!stays.wire.head().unwrap().unwrap().closes());
        drop(leaves);
        assert!(stays.wire.exactly(LONG).unwrap() == content);
        let short = &content[..200_000];
        assert!(stays.post("/", short).content == short);
    }
}

#[test]
fn a_server_that_breaks_off_in_long_content_cuts_its_client_and_nobody_else() {
    let content = Chance::new().base64(1 << 20);
    let theirs = content.clone();
    let peer = Peer::start(move |talk| match &*talk.target {
        "/cut" => {
            let whole = reply(200, &[], &theirs);
            talk.wire.send(&whole[..whole.len() - 1])?;
            Ok(false)
        }
        _ => echoes(talk),
    });
    let balancer = Balancer::before([&peer], &[]);
    let mut client = balancer.client();
    client.ask("GET", "/cut");
    assert!(client.response_to("GET").is_err());
    assert!(balancer.client().post("/", &content).content == content);
}

#[test]
fn much_goes_through_a_tunnel_and_comes_back() {
    let peer = Peer::start(|talk| {
        let switch = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        talk.wire.send(switch)?;
        // Nothing comes back until all has come.
        let all = talk.wire.exactly(LONG)?;
        talk.wire.send(all)?;
        Ok(false)
    });
    let balancer = Balancer::before([&peer], &[]);
    let content = Chance::new().base64(LONG);
    let mut client = Client::new(&balancer.address);
    let ask = ["Connection: Upgrade", "Upgrade: echo"];
    client.send(request("GET", "/", &ask, b""));
    assert_eq!(client.response().status, 101);
    client.send(&content);
    assert!(client.wire.until_end().unwrap() == content);
    if cfg!(target_os = "linux") {
        assert!(pipes(&balancer) > 0);
    }
}
