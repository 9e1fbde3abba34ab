//! The servers: those of the command line and those of a file, each once, with their names looked up.
//!
//! A file has one server per line, written as on the command line; `#` begins a comment at the start of
//! a line or behind a blank. It is read at the start and again whenever the operator asks for it, and
//! judged as a whole: a file with a mistake in it changes nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::address::{self, Found, Place, Servers};
use super::{Program, Resolver, UsageError, one_line, quoted};
use crate::config::{Address, SERVERS_MAX, ServerConfig, ServerSource};

/// The longest file of servers, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One server or a range of them, and what errors call it.
struct Named {
    called: String,
    servers: Servers,
}

/// The servers that `source` names, before a balancer at `listen`: at least one, and none twice. Reads
/// the file and looks names up, which can block for as long as the system's resolver does.
///
/// # Errors
/// The first thing that is wrong; names are looked up only when nothing else is.
pub fn servers(
    source: &ServerSource,
    listen: &Address,
    resolver: &Resolver<'_>,
) -> Result<Vec<ServerConfig>, UsageError> {
    let named = Source::read(source)?;
    named.look_up(listen, resolver)
}

/// A server as one line or argument says it, for changes at run time; a range is too much, and so is a
/// host name, which could not be looked up without waiting.
///
/// # Errors
/// What was expected, as a noun phrase.
pub fn server(text: &str) -> Result<ServerConfig, String> {
    let servers = address::servers(text)?;
    if servers.place.count() != 1 {
        return Err("one server at a time, e.g. 127.0.0.1:9004".to_owned());
    }
    let refused = |_: &str| Err(io::ErrorKind::Unsupported.into());
    let found = servers.place.look_up(&refused).map_err(|_| {
        "an address of numbers, e.g. 127.0.0.1:9004: to look a name up would hold up all requests"
            .to_owned()
    })?;
    Ok(servers.config(&found, 0))
}

/// All that was written, judged but for what needs a lookup.
pub(super) struct Source(Vec<Named>);

impl Source {
    /// Reads arguments and file.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub(super) fn read(source: &ServerSource) -> Result<Source, UsageError> {
        let mut all = Source(Vec::new());
        for word in &source.arguments {
            all.add(format!("SERVER {}", quoted(word)), word)?;
        }
        if let Some(path) = &source.file {
            let text = read_file(path)?;
            for (place, line) in text.lines().enumerate() {
                let text = without_comment(line);
                if !text.is_empty() {
                    let shown = path.to_string_lossy();
                    let called =
                        format!("{} line {}, {}", one_line(&shown), place + 1, quoted(text));
                    all.add(called, text)?;
                }
            }
        }
        if all.0.is_empty() {
            let (what, expected) = match &source.file {
                Some(path) => (
                    format!("--servers-file {}", quoted(&path.to_string_lossy())),
                    "expected at least one server in it, one per line, e.g. 127.0.0.1:9001",
                ),
                None => (
                    "SERVER".to_owned(),
                    "expected one or more behind the PORT, e.g. bestguess 8080 9001 9002",
                ),
            };
            return Err(Program::Balancer.refuse(what, expected));
        }
        Ok(all)
    }

    fn add(&mut self, called: String, text: &str) -> Result<(), UsageError> {
        let refuse = |called: &str, expected: &str| {
            Program::Balancer.refuse(called, format!("expected {expected}"))
        };
        let servers = address::servers(text).map_err(|expected| refuse(&called, &expected))?;
        let before: usize = self.0.iter().map(|named| named.servers.place.count()).sum();
        if before + servers.place.count() > SERVERS_MAX {
            return Err(refuse(
                &called,
                &format!("at most {SERVERS_MAX} servers in all"),
            ));
        }
        self.0.push(Named { called, servers });
        Ok(())
    }

    /// Looks up the names, each once.
    ///
    /// # Errors
    /// A name that has no address, a server that is there twice, or is the balancer itself.
    pub(super) fn look_up(
        self,
        listen: &Address,
        resolver: &Resolver<'_>,
    ) -> Result<Vec<ServerConfig>, UsageError> {
        let mut known = HashSet::new();
        let mut all = Vec::new();
        for Named { called, servers } in self.0 {
            let found = look_up(&called, &servers.place, resolver)?;
            for offset in 0..servers.place.count() {
                let config = servers.config(&found, offset);
                let address = &config.address;
                let wrong = if address.reaches(listen) {
                    format!("expected another address than {listen}, where the balancer listens")
                } else if !known.insert(address.to_string()) {
                    format!("expected each server once, but {address} is there already")
                } else {
                    all.push(config);
                    continue;
                };
                return Err(Program::Balancer.refuse(called, wrong));
            }
        }
        Ok(all)
    }
}

/// Looks up the name of a place.
///
/// # Errors
/// That it has no address now.
pub(super) fn look_up(
    called: &str,
    place: &Place,
    resolver: &Resolver<'_>,
) -> Result<Found, UsageError> {
    place
        .look_up(resolver)
        .map_err(|cause| UsageError::Unresolved {
            argument: called.to_owned(),
            cause: one_line(&cause.to_string()),
        })
}

/// What stands before a comment, without the blanks around it.
fn without_comment(line: &str) -> &str {
    let mut before = None;
    let comment = line.char_indices().find(|(_, character)| {
        let begins = *character == '#' && before.is_none_or(char::is_whitespace);
        before = Some(*character);
        begins
    });
    let end = comment.map_or(line.len(), |(place, _)| place);
    line.get(..end).unwrap_or_default().trim()
}

fn read_file(path: &Path) -> Result<String, UsageError> {
    let shown = format!("--servers-file {}", quoted(&path.to_string_lossy()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|cause| UsageError::Unreadable {
            argument: shown.clone(),
            cause: one_line(&cause.to_string()),
        })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let expected = format!("expected a file of at most {FILE_BYTES_MAX} bytes");
        return Err(Program::Balancer.refuse(shown, expected));
    }
    String::from_utf8(bytes).map_err(|wrong| {
        let valid = wrong.utf8_error().valid_up_to();
        let good = wrong.as_bytes().get(..valid).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let path = one_line(&path.to_string_lossy());
        Program::Balancer.refuse(format!("{path} line {line}"), "expected UTF-8 text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::path::PathBuf;

    fn resolver(host: &str) -> io::Result<SocketAddr> {
        match host {
            "app" => Ok(SocketAddr::from(([10, 0, 0, 7], 0))),
            _ => Err(io::Error::other("not known")),
        }
    }

    /// A file with this content, in a folder of its own that goes with it.
    struct Written(PathBuf);

    impl Written {
        fn new(name: &str, content: &[u8]) -> Written {
            let folder =
                std::env::temp_dir().join(format!("bestguess-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("servers"), content).unwrap();
            Written(folder)
        }

        fn read(&self, arguments: &[&str]) -> Result<Vec<ServerConfig>, UsageError> {
            let source = ServerSource {
                arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
                file: Some(self.0.join("servers")),
            };
            let listen = Address::Tcp("127.0.0.1:8080".parse().unwrap());
            servers(&source, &listen, &resolver)
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_has_a_server_per_line_behind_those_of_the_command_line() {
        let file = Written::new(
            "lines",
            b"# all of them\n\n9001,weight=2,max=10\r\n  app:80,backup  # the last resort\n\
              unix:/run/a#b.sock\n\t\n#9009\n9004-9005",
        );
        let found = file.read(&["9000"]).unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|it| {
                format!(
                    "{} {} {} {:?} {}",
                    it.name, it.address, it.weight, it.max, it.backup
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "127.0.0.1:9000 127.0.0.1:9000 1 None false",
                "127.0.0.1:9001 127.0.0.1:9001 2 Some(10) false",
                "app:80 10.0.0.7:80 1 None true",
                "unix:/run/a#b.sock unix:/run/a#b.sock 1 None false",
                "127.0.0.1:9004 127.0.0.1:9004 1 None false",
                "127.0.0.1:9005 127.0.0.1:9005 1 None false",
            ]
        );
    }

    #[test]
    fn a_mistake_is_told_with_file_line_text_and_rule() {
        for (content, line, rule) in [
            (
                "9001\n9002,wieght=2\n",
                "line 2, '9002,wieght=2'",
                "nothing but ,weight=W",
            ),
            ("app\n", "line 1, 'app'", "a port behind the host"),
            (
                "9001\n\n# x\n9001 # again\n",
                "line 4, '9001'",
                "each server once",
            ),
            ("8080", "line 1, '8080'", "where the balancer listens"),
            ("9001 9002", "line 1, '9001 9002'", "a port from 1 to 65535"),
            ("gone:80", "line 1, 'gone:80'", "cannot resolve"),
        ] {
            let file = Written::new("mistake", content.as_bytes());
            let text = file.read(&[]).unwrap_err().to_string();
            assert!(text.contains(line) && text.contains(rule), "{text}");
            assert!(text.contains("/servers"), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
        let text = Written::new("bytes", b"9001\n\xff\n")
            .read(&[])
            .unwrap_err();
        assert!(
            text.to_string().contains("line 2: expected UTF-8"),
            "{text}"
        );
        let text = Written::new("none", b"# none\n").read(&[]).unwrap_err();
        assert!(text.to_string().contains("at least one server"), "{text}");
        assert_eq!(text.exit_code(), 2);
    }

    #[test]
    fn a_file_that_is_too_long_or_not_there_is_refused() {
        let long = vec![b'#'; FILE_BYTES_MAX as usize + 1];
        let text = Written::new("long", &long).read(&[]).unwrap_err();
        assert!(text.to_string().contains("at most 1048576 bytes"), "{text}");
        let gone = Written::new("gone", b"");
        std::fs::remove_file(gone.0.join("servers")).unwrap();
        let text = gone.read(&["9001"]).unwrap_err();
        assert_eq!(text.exit_code(), 1);
        assert!(text.to_string().contains("cannot read it"), "{text}");
    }

    #[test]
    fn a_server_to_be_added_is_one_with_an_address() {
        let found = server("9004,weight=2,max=3,backup").unwrap();
        assert_eq!(
            (found.weight, found.max, found.backup),
            (2.0, Some(3), true)
        );
        assert!(
            server("app:80")
                .unwrap_err()
                .contains("an address of numbers")
        );
        assert!(server("9001-9002").unwrap_err().contains("one server"));
        assert!(server("").is_err());
    }
}
