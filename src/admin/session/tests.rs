use super::*;
use crate::admin::answer::JSON;
use crate::config::Address;
use crate::net::Token;
use crate::net::stub::Stub;

fn session(said: &str) -> (Session<Stub>, Guard) {
    let listen = Address::Unix("/admin".into());
    let conn = Conn::new(Stub::deaf(said), Token::ADMIN_DOOR);
    (Session::new(conn, None, Time(0)), Guard::new(&listen, None))
}

#[test]
fn who_does_not_read_events_misses_some_and_holds_little() {
    let (mut reader, guard) = session("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let Served::Asked(asked) = reader.serve(&mut [0; READ], &guard) else {
        panic!("nothing is asked");
    };
    let answer = Answer {
        status: 200,
        allow: None,
        content: Content::Events(Vec::new()),
    };
    reader.answer(&asked, &answer, "now", false);
    assert!(reader.is_subscribed());
    let event = [b'x'; 1000];
    for _ in 0..10_000 {
        assert!(reader.tell(&event, false));
    }
    assert!(reader.out.len() <= BEHIND_MAX);
    // What nobody may miss goes on for a while, then it is over.
    let told = (0..10_000)
        .take_while(|_| reader.tell(&event, true))
        .count();
    assert!((1000..2000).contains(&told), "{told}");
    assert!(reader.out.len() <= BEHIND_MOST);
    assert!(matches!(reader.serve(&mut [0; READ], &guard), Served::Wait));
}

#[test]
fn an_answer_that_is_not_read_holds_the_next_request_up() {
    let (mut deaf, guard) = session("GET /status HTTP/1.1\r\nHost: a\r\n\r\nGET /");
    let Served::Asked(asked) = deaf.serve(&mut [0; READ], &guard) else {
        panic!("nothing is asked");
    };
    deaf.answer(
        &asked,
        &Answer::good(JSON, vec![b'1'; 1 << 20]),
        "now",
        false,
    );
    assert!(matches!(deaf.serve(&mut [0; READ], &guard), Served::Wait));
    assert_eq!(deaf.waiting(), Waiting::Reader);
    assert!(!deaf.overdue("now"), "there is nothing more to be said");
}
