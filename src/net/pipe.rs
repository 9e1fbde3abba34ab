//! One pipe of the kernel's, and splice(2) into it and out of it.
//!
//! Pages of a TCP socket's queue go into the pipe and on to the other socket without being copied.
//! Knows nothing of what they are, nor of who takes turns with it; `pipes` does.

#[cfg(target_os = "linux")]
pub use linux::Pipe;
#[cfg(not(target_os = "linux"))]
pub use nowhere::Pipe;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::io::Errno;
    use rustix::pipe::{
        PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
    };

    /// What a pipe should hold, in bytes, the best first. The system gives less to a user who has
    /// many pipes (pipe-user-pages-soft), or to all (pipe-max-size).
    const WISHES: [usize; 3] = [1 << 20, 256 << 10, 64 << 10];
    /// A pipe that holds less costs more than it saves.
    const SIZE_MIN: usize = 64 << 10;

    /// A pipe.
    #[derive(Debug)]
    pub struct Pipe {
        front: OwnedFd,
        back: OwnedFd,
    }

    impl Pipe {
        /// A new pipe, empty; none: the system has none left that is large enough.
        pub fn new() -> Option<Pipe> {
            let (front, back) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            if !WISHES
                .iter()
                .any(|wish| fcntl_setpipe_size(&back, *wish).is_ok())
                && fcntl_getpipe_size(&back).ok()? < SIZE_MIN
            {
                return None;
            }
            Some(Pipe { front, back })
        }

        /// See `Socket::splice_in`.
        pub fn splice_in(&mut self, from: impl AsFd, most: usize) -> io::Result<usize> {
            splice(from, None, &self.back, None, most, SpliceFlags::NONBLOCK).map_err(|errno| {
                match errno {
                    // A kernel, or a filter before it, that does not splice sockets.
                    Errno::INVAL | Errno::NOSYS | Errno::PERM => io::ErrorKind::Unsupported.into(),
                    other => other.into(),
                }
            })
        }

        /// See `Socket::splice_out`.
        pub fn splice_out(&mut self, to: impl AsFd, held: usize) -> io::Result<usize> {
            let flags = SpliceFlags::NONBLOCK;
            Ok(splice(&self.front, None, to, None, held, flags)?)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::io;

    /// There are none on this system.
    #[derive(Debug)]
    pub enum Pipe {}

    impl Pipe {
        /// None.
        pub fn new() -> Option<Pipe> {
            None
        }

        /// Never called.
        pub fn splice_in<S>(&mut self, _: S, _: usize) -> io::Result<usize> {
            match *self {}
        }

        /// Never called.
        pub fn splice_out<S>(&mut self, _: S, _: usize) -> io::Result<usize> {
            match *self {}
        }
    }
}
