use std::io;

use super::*;
use crate::admin::answer::JSON;
use crate::config::Address;
use crate::net::Token;

/// A socket whose peer says what it is given, and reads nothing.
struct Deaf(&'static [u8]);

impl Socket for Deaf {
    type Pipe = ();

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.0.len().min(buffer.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }

    fn send(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn session(bytes: &'static [u8]) -> (Session<Deaf>, Guard) {
    let listen = Address::Unix("/admin".into());
    let conn = Conn::new(Deaf(bytes), Token::ADMIN_DOOR);
    (Session::new(conn, None, Time(0)), Guard::new(&listen, None))
}

#[test]
fn who_does_not_read_events_misses_some_and_holds_little() {
    let (mut reader, guard) = session(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
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
    let (mut deaf, guard) = session(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\nGET /");
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
