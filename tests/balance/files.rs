//! The original test: files of random base64 through the balancer, in parallel, byte for byte.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::program::{Balancer, Chance, Folder, Origin, spare_address};
use crate::watch::{Stop, Watch};
use crate::wire::Client;

const SIZES: [usize; 8] = [1, 100, 3001, 16_384, 65_535, 200_000, 524_288, 1 << 20];
/// What a killed server had not yet given to its system is lost, and its client must be cut. These
/// a server writes in one piece: either no byte of them came, or all did.
const SMALL_SIZES: [usize; 8] = [1, 100, 1000, 1500, 2048, 3000, 4096, 8192];
const TIMES: usize = 8;

/// Targets with what they must bring.
type Files = Vec<(String, Vec<u8>)>;

fn write_files(folder: &Folder, sizes: &[usize]) -> Files {
    let mut chance = Chance::new();
    let files = sizes.iter().enumerate().map(|(index, size)| {
        let content = chance.base64(*size);
        let name = format!("file{index}");
        std::fs::write(folder.path().join(&name), &content).unwrap();
        (format!("/{name}"), content)
    });
    files.collect()
}

fn assert_same(client: &mut Client, target: &str, content: &[u8]) -> String {
    let response = client.get(target);
    assert_eq!(response.status, 200, "{target}: {response:?}");
    assert!(
        response.content == content,
        "{target}: {} bytes that are not the {} of the file",
        response.content.len(),
        content.len()
    );
    response.field("Server").unwrap_or_default().to_owned()
}

/// Each file `TIMES` times, all at once, each on a connection of its own.
fn eight_times_eight(options: &[&str]) {
    let folder = Folder::new();
    let files = write_files(&folder, &SIZES);
    let origins = Origin::three(Some(&folder));
    let balancer = Balancer::before(&origins, options);
    thread::scope(|scope| {
        for _ in 0..TIMES {
            for (target, content) in &files {
                scope.spawn(|| assert_same(&mut balancer.client(), target, content));
            }
        }
    });
}

#[test]
fn eight_files_eight_times_in_parallel_arrive_whole() {
    eight_times_eight(&["-N", "8"]);
}

#[test]
fn one_request_at_a_time_serves_all_files() {
    eight_times_eight(&["-N", "1"]);
}

#[test]
fn a_round_after_every_request_disturbs_no_file() {
    eight_times_eight(&["-N", "8", "-R", "1"]);
}

#[test]
fn five_rounds_a_second_disturb_no_file() {
    eight_times_eight(&["-N", "8", "-X", "0.2"]);
}

/// What clients without pause have seen.
#[derive(Debug, Default)]
struct Tally {
    answers: usize,
    by_server: HashMap<String, usize>,
}

fn await_more(tally: &Watch<Tally>, count: usize) {
    let goal = tally.look(|tally| tally.answers) + count;
    tally.until("more answers", |tally| {
        (tally.answers >= goal).then_some(())
    });
}

/// Waits until the server `name` has answered again.
fn await_server(tally: &Watch<Tally>, name: &str) {
    let answered = |tally: &Tally| tally.by_server.get(name).copied().unwrap_or_default();
    let before = tally.look(answered);
    tally.until(&format!("an answer of {name}"), |tally| {
        (answered(tally) > before).then_some(())
    });
}

/// GETs file after file until it `must_stop`; a connection serves `per_client` of them.
fn get_on(
    balancer: &Balancer,
    files: &Files,
    per_client: usize,
    must_stop: &AtomicBool,
    tally: &Watch<Tally>,
) {
    let mut next = 0;
    while !must_stop.load(Ordering::Relaxed) {
        let mut client = balancer.client();
        for _ in 0..per_client {
            let (target, content) = &files[next % files.len()];
            next += 1;
            let server = assert_same(&mut client, target, content);
            tally.change(|tally| {
                tally.answers += 1;
                *tally.by_server.entry(server).or_default() += 1;
            });
        }
    }
}

#[test]
fn a_killed_server_costs_no_get_and_comes_back_by_itself() {
    let folder = Folder::new();
    let files = write_files(&folder, &SMALL_SIZES);
    let stays = ["a", "c"].map(|name| Origin::start("127.0.0.1:0", name, Some(&folder), &[]));
    let address = spare_address();
    let mut killed = Origin::start(&address, "b", Some(&folder), &[]);
    let servers = [&stays[0], &killed, &stays[1]];
    let balancer = Balancer::before(servers, &["-N", "8", "-X", "0.2"]);
    let (must_stop, tally) = (AtomicBool::new(false), Watch::new(Tally::default()));
    thread::scope(|scope| {
        let _stop = Stop(&must_stop);
        for per_client in [1, 2, 3, 5, 8, 13] {
            let (balancer, files, must_stop, tally) = (&balancer, &files, &must_stop, &tally);
            scope.spawn(move || get_on(balancer, files, per_client, must_stop, tally));
        }
        for _ in 0..2 {
            await_server(&tally, "b");
            let mark = balancer.log().mark();
            killed.program.kill();
            let line = format!("server {address} is invalid: connection refused");
            balancer.log().holding(mark, &line);
            await_more(&tally, 200);

            let mark = balancer.log().mark();
            killed = Origin::start(&address, "b", Some(&folder), &[]);
            balancer.await_valid(mark, &address);
            await_server(&tally, "b");
            await_more(&tally, 200);
        }
    });
}

#[test]
fn a_file_put_through_the_balancer_comes_back() {
    let folder = Folder::new();
    let origins = Origin::three(Some(&folder));
    let balancer = Balancer::before(&origins, &["-N", "8"]);
    let content = Chance::new().base64(300_000);
    let mut client = balancer.client();
    client.send(crate::wire::request("PUT", "/new", &[], &content));
    assert_eq!(client.response().status, 201);
    for _ in 0..3 {
        assert_same(&mut client, "/new", &content);
    }
    assert!(std::fs::read(folder.path().join("new")).unwrap() == content);
}
