//! Stickiness: a client keeps its server as long as that may be chosen.

use crate::choice::name_of;
use crate::peer::{Peer, reply};
use crate::program::{Balancer, Folder, Origin};
use crate::wire::{Client, Response, request};

fn ask(client: &mut Client, cookie: &str) -> Response {
    client.send(request("GET", "/", &[&format!("Cookie: {cookie}")], b""));
    client.response()
}

/// `NAME=VALUE` of the cookie that a response sets, which has to have these attributes.
fn set_by(response: &Response) -> String {
    let line = response.field("Set-Cookie").expect("a cookie");
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    pair.to_owned()
}

#[test]
fn a_cookie_leads_back_to_the_server_that_set_it() {
    let mut origins = Origin::three(None);
    let options = [
        "--sticky",
        "cookie=to",
        "--policy",
        "round-robin",
        "--explain",
    ];
    let balancer = Balancer::before(&origins, &options);
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    let mut client = balancer.client();
    let first = client.get("/");
    let (server, cookie) = (name_of(&first), set_by(&first));
    assert!(cookie.starts_with("to=") && cookie.len() == 35, "{cookie}");
    for _ in 0..6 {
        let again = ask(&mut client, &format!("a=b; {cookie}"));
        assert_eq!(name_of(&again), server);
        assert_eq!(again.field("Set-Cookie"), None);
    }
    let index = ["a", "b", "c"]
        .iter()
        .position(|name| *name == server)
        .unwrap();
    let line = balancer.log().holding(0, "sticky: the cookie names it");
    assert!(line.contains(&format!(": {}: ", origins[index])), "{line}");

    // It goes: another one takes over, and keeps the client.
    let mark = balancer.log().mark();
    origins[index].program.kill();
    balancer.await_invalid(mark, &origins[index]);
    let other = ask(&mut client, &cookie);
    assert_ne!(name_of(&other), server);
    let new = set_by(&other);
    assert_ne!(new, cookie);
    for _ in 0..4 {
        assert_eq!(name_of(&ask(&mut client, &new)), name_of(&other));
    }
}

#[test]
fn a_cookie_of_ones_own_making_is_no_more_than_none() {
    let origins = Origin::three(None);
    let balancer = Balancer::before(&origins, &["--sticky", "cookie"]);
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    let mut client = balancer.client();
    for made in ["127.0.0.1:9001", "", &"0".repeat(32), &"f".repeat(5000)] {
        let cookie = format!("bestguess={made}");
        assert_ne!(set_by(&ask(&mut client, &cookie)), cookie);
    }
}

#[test]
fn servers_do_not_see_the_cookie_but_all_others() {
    let peer = Peer::start(move |talk| {
        let cookie = talk.head.field("Cookie").unwrap_or("none").to_owned();
        talk.wire.send(reply(200, &[], cookie))?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &["--sticky", "cookie"]);
    balancer.await_valid(0, &peer);
    let mut client = balancer.client();
    let cookie = set_by(&client.get("/"));
    assert_eq!(ask(&mut client, &cookie).text(), "none");
    assert_eq!(
        ask(&mut client, &format!("a=1; {cookie}; b=2")).text(),
        "a=1; b=2"
    );
}

#[test]
fn a_shared_cache_may_not_keep_the_response_that_brings_the_cookie() {
    let peer = Peer::start(move |talk| {
        let fields = ["Cache-Control: public, max-age=60"];
        talk.wire.send(reply(200, &fields, "for all"))?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &["--sticky", "cookie"]);
    balancer.await_valid(0, &peer);
    let mut client = balancer.client();
    let controls = |response: &Response| {
        let fields = response.head.fields.iter();
        let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("Cache-Control"));
        named.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let first = client.get("/");
    assert_eq!(controls(&first), ["public, max-age=60", "private"]);
    let second = ask(&mut client, &set_by(&first));
    assert_eq!(controls(&second), ["public, max-age=60"]);
}

#[test]
fn balancers_with_the_same_key_lead_to_the_same_servers() {
    let origins = Origin::three(None);
    let folder = Folder::new();
    let path = folder.path().join("key");
    std::fs::write(&path, "a key that nobody can guess\n").unwrap();
    let options = [
        "--sticky",
        "cookie",
        "--sticky-key-file",
        path.to_str().unwrap(),
    ];
    let balancers = [(); 2].map(|()| Balancer::before(&origins, &options));
    for balancer in &balancers {
        for origin in &origins {
            balancer.await_valid(0, origin);
        }
    }
    let [one, other] = &balancers;
    let first = one.get("/");
    for _ in 0..3 {
        let mut client = other.client();
        let again = ask(&mut client, &set_by(&first));
        assert_eq!(name_of(&again), name_of(&first));
        assert_eq!(again.field("Set-Cookie"), None);
    }
}

#[test]
fn an_address_leads_to_one_server_until_that_is_gone() {
    let mut origins = Origin::three(None);
    let options = ["--sticky", "ip", "--policy", "random"];
    let balancer = Balancer::before(&origins, &options);
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    let server = name_of(&balancer.get("/"));
    for _ in 0..20 {
        let response = balancer.get("/");
        assert_eq!(name_of(&response), server);
        assert_eq!(response.field("Set-Cookie"), None);
    }
    let index = ["a", "b", "c"]
        .iter()
        .position(|name| *name == server)
        .unwrap();
    let mark = balancer.log().mark();
    origins[index].program.kill();
    balancer.await_invalid(mark, &origins[index]);
    let other = name_of(&balancer.get("/"));
    assert_ne!(other, server);
    for _ in 0..10 {
        assert_eq!(name_of(&balancer.get("/")), other);
    }
}
