//! A socket for unit tests: its peer has said all that it will say, and takes all that comes or nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;

use super::Socket;

/// The socket.
pub struct Stub {
    said: VecDeque<u8>,
    takes_all: bool,
}

impl Stub {
    /// The peer takes all that comes.
    pub fn saying(said: &str) -> Stub {
        Stub {
            said: said.bytes().collect(),
            takes_all: true,
        }
    }

    /// The peer takes nothing.
    pub fn deaf(said: &str) -> Stub {
        Stub {
            takes_all: false,
            ..Stub::saying(said)
        }
    }
}

impl Socket for Stub {
    type Pipe = Infallible;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.said.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (place, byte) in buffer.iter_mut().zip(self.said.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.takes_all {
            true => Ok(bytes.len()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}
