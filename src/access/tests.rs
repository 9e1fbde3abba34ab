use super::*;
use std::time::UNIX_EPOCH;

use crate::config::{Address, LogTarget, Policy};
use crate::guess::Rule;
use crate::http::head;

const NOON: u64 = 1_795_363_642;

fn at(micros: u64) -> Time {
    Time(1_000_000_000 + micros * 1000)
}

fn access(adjust: impl FnOnce(&mut Config)) -> Access {
    let mut config = Config::new(Address::Unix("front".into()), Vec::new());
    config.access_log = Some(LogTarget::Stdout);
    adjust(&mut config);
    let date = UNIX_EPOCH + Duration::from_secs(NOON);
    Access::new(&config, at(0), date, 7)
}

fn json(config: &mut Config) {
    config.log_format = LogFormat::Json;
}

fn ask(access: &mut Access, now: Time, head: &[u8]) -> Box<Record> {
    let mut slots = head::slots();
    let mut record = None;
    let request = head::request(head, &mut slots).ok().unwrap();
    access.ask(&mut record, now, &request);
    record.unwrap()
}

fn ended<'e>(record: Option<&'e Record>, now: Time) -> Ended<'e> {
    Ended {
        peer: Some("192.0.2.7:99".parse().unwrap()),
        record,
        now,
        status: 200,
        bytes: 12,
        is_complete: true,
    }
}

fn line(access: &mut Access, ended: &Ended<'_>) -> String {
    access.add(ended, |server| {
        ["one:80", "two\"quoted"].get(server).copied()
    });
    String::from_utf8(access.take()).unwrap()
}

const HEAD: &[u8] =
    b"GET /a?b HTTP/1.1\r\nHost: x\r\nUser-Agent: a\"b\xff\\\r\nX-Request-Id: 1-2\r\n\r\n";

#[test]
fn a_line_is_in_the_combined_format_and_can_not_be_forged() {
    let mut access = access(|_| {});
    let record = ask(&mut access, at(0), HEAD);
    let expected = "192.0.2.7 - - [22/Nov/2026:16:07:22 +0000] \"GET /a?b HTTP/1.1\" 200 12 \"-\" \"a\\\"b\\xFF\\\\\"\n";
    assert_eq!(line(&mut access, &ended(Some(&record), at(0))), expected);
    assert_eq!(record.id(), None);
}

#[test]
fn the_combined_format_has_a_line_for_what_could_not_be_read() {
    let mut access = access(|_| {});
    let refused = Ended {
        peer: None,
        status: 400,
        ..ended(None, at(0))
    };
    assert_eq!(
        line(&mut access, &refused),
        "- - - [22/Nov/2026:16:07:22 +0000] \"-\" 400 12 \"-\" \"-\"\n"
    );
}

#[test]
fn a_json_line_has_all_keys_in_their_order() {
    let mut access = access(|config| {
        json(config);
        config.request_id = true;
        config.trust_forwarded = true;
    });
    let mut place = None;
    access.begin(&mut place, at(0));
    let mut slots = head::slots();
    let request = head::request(HEAD, &mut slots).ok().unwrap();
    access.ask(&mut place, at(1_000), &request);
    let mut record = place.unwrap();
    // The first server breaks off, the second answers.
    record.placed(at(3_500), 0, Some(Rule::Time));
    record.came_on(at(3_500), true, false);
    record.placed(at(10_000), 1, Some(Rule::LeastUnfit));
    record.came_on(at(10_000), false, false);
    record.came_on(at(10_123), true, false);
    record.came_on(at(12_000), true, true);
    record.came_on(at(13_000), true, true);
    let expected = concat!(
        r#"{"time":"2026-11-22T16:07:22.014Z","client":"192.0.2.7","client_port":99,"#,
        r#""method":"GET","target":"/a?b","version":"HTTP/1.1","host":"x","referer":null,"#,
        r#""user_agent":"a\"b\u00ff\\","status":200,"bytes":12,"complete":true,"#,
        r#""server":"two\"quoted","tries":2,"reason":"least_unfit","queue_ms":2.500,"#,
        r#""connect_ms":0.123,"response_ms":1.877,"total_ms":14.999,"request_id":"1-2"}"#,
        "\n"
    );
    assert_eq!(
        line(&mut access, &ended(Some(&record), at(14_999))),
        expected
    );
}

#[test]
fn a_json_line_says_null_of_what_never_came() {
    let mut access = access(json);
    let refused = Ended {
        peer: None,
        status: 400,
        is_complete: false,
        ..ended(None, at(0))
    };
    let expected = concat!(
        r#"{"time":"2026-11-22T16:07:22.000Z","client":null,"client_port":null,"#,
        r#""method":null,"target":null,"version":null,"host":null,"referer":null,"#,
        r#""user_agent":null,"status":400,"bytes":12,"complete":false,"server":null,"#,
        r#""tries":0,"reason":null,"queue_ms":null,"connect_ms":null,"response_ms":null,"#,
        r#""total_ms":0.000,"request_id":null}"#,
        "\n"
    );
    assert_eq!(line(&mut access, &refused), expected);
    // One that waited in vain for a place.
    let record = ask(&mut access, at(0), HEAD);
    let text = line(&mut access, &ended(Some(&record), at(30_000_000)));
    assert!(
        text.contains(r#""tries":0,"reason":null,"queue_ms":30000.000,"connect_ms":null,"#),
        "{text}"
    );
}

#[test]
fn the_first_of_each_field_and_the_target_as_it_was_written_are_noted() {
    let head = b"GET http://there/a HTTP/1.0\r\nHost: here\r\nREFERER: 1\r\nReferer: 2\r\nuser-agent: 3\r\n\r\n";
    let mut access = access(json);
    let record = ask(&mut access, at(0), head);
    let text = line(&mut access, &ended(Some(&record), at(0)));
    let expected = r#""target":"http://there/a","version":"HTTP/1.0","host":"there","referer":"1","user_agent":"3","#;
    assert!(text.contains(expected), "{text}");
}

#[test]
fn who_left_before_it_had_asked_leaves_no_line() {
    let mut access = access(|_| {});
    let mut place = None;
    access.begin(&mut place, at(0));
    for record in [None, place.as_deref()] {
        let gone = Ended {
            status: 0,
            ..ended(record, at(5))
        };
        assert_eq!(line(&mut access, &gone), "");
    }
}

#[test]
fn an_id_is_taken_only_from_who_is_trusted_and_only_if_it_is_fit() {
    let given = |trust: bool, fields: &str| {
        let mut access = access(|config| {
            config.access_log = None;
            config.request_id = true;
            config.trust_forwarded = trust;
        });
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let record = ask(&mut access, at(0), head.as_bytes());
        String::from_utf8(record.id().unwrap().to_vec()).unwrap()
    };
    let made = given(true, "");
    assert_eq!(made.len(), 32);
    assert_eq!(given(true, "X-Request-Id: one\r\n"), "one");
    assert_eq!(given(false, "X-Request-Id: one\r\n"), made);
    for doubtful in [
        "X-Request-Id:\r\n",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: one\r\nX-Request-Id: one\r\n",
        "X_Request_Id: one\r\n",
        "X-Request-Id: one\r\nConnection: x-request-id\r\n",
    ] {
        assert_eq!(given(true, doubtful), made, "{doubtful}");
    }
    let long = format!("X-Request-Id: {}\r\n", "a".repeat(129));
    assert_eq!(given(true, &long), made);
}

#[test]
fn nothing_is_noted_where_nobody_wants_to_know() {
    let mut access = access(|config| config.access_log = None);
    let mut place = None;
    access.begin(&mut place, at(0));
    let mut slots = head::slots();
    let request = head::request(HEAD, &mut slots).ok().unwrap();
    access.ask(&mut place, at(0), &request);
    access.refuse(&mut place, at(0));
    assert!(place.is_none() && !access.is_recording() && !access.wants_reasons());
    assert_eq!(line(&mut access, &ended(None, at(0))), "");
}

#[test]
fn an_explanation_has_its_line_whatever_the_format() {
    for format in [LogFormat::Combined, LogFormat::Json] {
        let mut access = access(|config| {
            config.log_format = format;
            config.explain = true;
            config.policy = Policy::Random;
        });
        let record = ask(&mut access, at(0), HEAD);
        assert_eq!(record.request_line().to_string(), "GET /a?b HTTP/1.1");
        let text = line(&mut access, &ended(Some(&record), at(0)));
        assert_eq!(text.matches("/a?b").count(), 1, "{text}");
    }
}

#[test]
fn records_are_used_again_and_a_burst_of_them_goes_away() {
    let mut access = access(|_| {});
    let records: Vec<Box<Record>> = (0..100).map(|_| ask(&mut access, at(0), HEAD)).collect();
    for mut record in records {
        record.placed(at(1), 0, None);
        access.take_back(record);
    }
    let record = ask(&mut access, at(2), HEAD);
    assert!(record.last().is_none() && record.tries() == 0);
    assert_eq!(access.free.len(), 99);
    access.take_back(record);
    for _ in 0..20 {
        access.shrink();
    }
    assert!((1..=SPARE_RECORDS + 2).contains(&access.free.len()));
    let mut head = HEAD[..HEAD.len() - 2].to_vec();
    head.extend_from_slice(format!("Referer: {}\r\n\r\n", "r".repeat(8000)).as_bytes());
    let long = ask(&mut access, at(0), &head);
    let before = access.free.len();
    access.take_back(long);
    assert_eq!(access.free.len(), before, "a big one is not kept");
}

#[test]
fn lines_that_nobody_takes_are_counted_not_kept() {
    let mut access = access(|_| {});
    for _ in 0..30_000 {
        access.add(&ended(None, at(0)), |_| None);
    }
    let lost = access.lost();
    let lines = access.take();
    let kept = memchr::memchr_iter(b'\n', &lines).count() as u64;
    assert_eq!(kept + lost, 30_000);
    assert!(lost > 0 && lines.len() < 2 * BUFFER_BYTES);
}
