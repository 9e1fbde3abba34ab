//! Cases before the real binary: a client and a server on real sockets, in one thread.
//!
//! One balancer serves many cases. What it has done for one of them is over when the requests behind
//! that case are answered (see `play`), and then one look at each socket shows all of it.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use bestguess::config::Address;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::cutting::Cutting;
use crate::format::{Case, rule};
use crate::play::{Action, Play, Who};
use crate::program::Balancer;

const LISTENER: Token = Token(0);
/// A case takes milliseconds, unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same of what is over, but for the end of a connection.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Longer bytes than this are not sent one by one, but whole.
const SINGLE_MAX: usize = 3000;

/// A server, and the balancers before it, one for each option that a case wants.
pub(crate) struct Sockets {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    address: SocketAddr,
    balancers: HashMap<Option<String>, Balancer>,
    tokens: usize,
}

/// One connection of this side's.
struct End {
    stream: TcpStream,
    who: Who,
    outs: VecDeque<Out>,
    has_ended: bool,
}

enum Out {
    Piece(Vec<u8>),
    End,
}

/// One case under way.
struct Stage<'s> {
    sockets: &'s mut Sockets,
    balancer: SocketAddr,
    play: Play,
    ends: HashMap<Token, End>,
    cutting: Cutting,
}

impl Sockets {
    pub(crate) fn new() -> Sockets {
        let poll = Poll::new().unwrap();
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let registry = poll.registry();
        registry
            .register(&mut listener, LISTENER, Interest::READABLE)
            .unwrap();
        Sockets {
            poll,
            events: Events::with_capacity(256),
            address: listener.local_addr().unwrap(),
            listener,
            balancers: HashMap::new(),
            tokens: 1,
        }
    }

    /// Plays `case`, its bytes cut by `cutting`.
    ///
    /// # Errors
    /// What is not as it has to be.
    pub(crate) fn play(&mut self, case: &Case, cutting: Cutting) -> Result<(), String> {
        let server = self.address;
        let balancer = self
            .balancers
            .entry(case.option.clone())
            .or_insert_with(|| {
                let mut options = vec!["--check", "off"];
                options.extend(case.option.as_deref());
                Balancer::before([server], &options)
            });
        let Address::Tcp(address) = balancer.address else {
            panic!("not TCP: {}", balancer.address);
        };
        let mark = balancer.log().mark();
        let mut stage = Stage {
            play: Play::new(case, address.port()),
            balancer: address,
            ends: HashMap::new(),
            cutting,
            sockets: self,
        };
        stage.advance();
        let mut until = Instant::now() + PATIENCE;
        while !stage.play.is_over() && Instant::now() < until {
            stage.turn(until);
            if stage.play.is_probed() {
                // Behind that only the end of a connection may still be under way.
                until = until.min(Instant::now() + END_PATIENCE);
            }
        }
        stage.look_at_all();
        let verdict = stage.play.verdict();
        stage.leave();
        drop(stage);
        verdict?;
        let log = self.balancers[&case.option].log();
        for row in &case.logged {
            let (text, section) = rule(row)?;
            log.holding(mark, &format!("sent a broken response: {text} ({section})"));
        }
        Ok(())
    }
}

impl Stage<'_> {
    fn turn(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let mut events = std::mem::replace(&mut self.sockets.events, Events::with_capacity(0));
        match self.sockets.poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => outcome.unwrap(),
        }
        for event in &events {
            if event.token() == LISTENER {
                self.accept();
            } else {
                self.serve(event.token());
            }
        }
        self.sockets.events = events;
        self.advance();
    }

    /// One look at each socket: all that has come by now is seen.
    fn look_at_all(&mut self) {
        self.accept();
        let tokens: Vec<Token> = self.ends.keys().copied().collect();
        for token in tokens {
            self.serve(token);
        }
        self.play.advance();
    }

    /// Ends all connections, and returns once the balancer has let go of them: none of its links
    /// may live on into the next case.
    fn leave(&mut self) {
        for end in self.ends.values() {
            let _ = end.stream.shutdown(Shutdown::Write);
        }
        let until = Instant::now() + END_PATIENCE;
        while self.ends.values().any(|end| !end.has_ended) && Instant::now() < until {
            self.turn(until);
        }
    }

    fn accept(&mut self) {
        loop {
            match self.sockets.listener.accept() {
                Ok((stream, _)) => {
                    let link = self.play.link_opened();
                    let token = self.register(stream, Who::Link(link));
                    self.serve(token);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("cannot accept: {error}"),
            }
        }
    }

    fn register(&mut self, mut stream: TcpStream, who: Who) -> Token {
        let token = Token(self.sockets.tokens);
        self.sockets.tokens += 1;
        stream.set_nodelay(true).unwrap();
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.sockets.poll.registry();
        registry.register(&mut stream, token, both).unwrap();
        let end = End {
            stream,
            who,
            outs: VecDeque::new(),
            has_ended: false,
        };
        self.ends.insert(token, end);
        token
    }

    /// Sends and receives what can be.
    fn serve(&mut self, token: Token) {
        let Some(end) = self.ends.get_mut(&token) else {
            // Of a case before.
            return;
        };
        end.flush();
        let mut room = [0; 64 << 10];
        while !end.has_ended {
            let ended = match end.stream.read(&mut room) {
                Ok(0) => Some(false),
                Ok(count) => {
                    match end.who {
                        Who::Client(client) => self.play.client_got(client, &room[..count]),
                        Who::Link(link) => self.play.link_got(link, &room[..count]),
                    }
                    None
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => None,
                Err(_) => Some(true),
            };
            if let Some(was_reset) = ended {
                end.has_ended = true;
                match end.who {
                    Who::Client(client) => self.play.client_ended(client, was_reset),
                    Who::Link(link) => self.play.link_ended(link),
                }
            }
        }
    }

    /// Does what the play wants.
    fn advance(&mut self) {
        let mut is_pause_over = false;
        for action in self.play.advance() {
            let (who, outs) = match action {
                Action::Open(client) => {
                    // Connected before the first byte: nothing else would show a refusal.
                    let stream = std::net::TcpStream::connect(self.balancer).unwrap();
                    stream.set_nonblocking(true).unwrap();
                    self.register(TcpStream::from_std(stream), Who::Client(client));
                    continue;
                }
                Action::Send(who, bytes) => {
                    let is_long = bytes.len() > SINGLE_MAX;
                    let cutting = match self.cutting {
                        Cutting::SingleBytes if is_long => Cutting::Whole,
                        cutting => cutting,
                    };
                    let pieces = cutting.pieces(&bytes, |_| unreachable!("nothing by chance"));
                    (who, pieces.into_iter().map(Out::Piece).collect())
                }
                Action::End(who) => (who, vec![Out::End]),
                Action::Pause => {
                    // All that was sent was sent by this thread: on one machine it has arrived.
                    self.play.resume();
                    is_pause_over = true;
                    continue;
                }
                Action::Reset(who) => {
                    self.ends.retain(|_, end| {
                        if end.who == who {
                            let socket = SockRef::from(&end.stream);
                            socket.set_linger(Some(Duration::ZERO)).unwrap();
                        }
                        end.who != who
                    });
                    continue;
                }
            };
            if let Some(end) = self.ends.values_mut().find(|end| end.who == who) {
                end.outs.extend(outs);
                end.flush();
            }
        }
        if is_pause_over {
            self.advance();
        }
    }
}

impl End {
    /// Sends what there is room for, each piece in a call of its own.
    fn flush(&mut self) {
        while let Some(out) = self.outs.front_mut() {
            match out {
                Out::Piece(bytes) => match self.stream.write(bytes) {
                    Ok(count) if count < bytes.len() => {
                        bytes.drain(..count);
                    }
                    Ok(_) => {
                        self.outs.pop_front();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    // The balancer has gone; what came before that is still to be read.
                    Err(_) => self.outs.clear(),
                },
                Out::End => {
                    let _ = self.stream.shutdown(Shutdown::Write);
                    self.outs.pop_front();
                }
            }
        }
    }
}
