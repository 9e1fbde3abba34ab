//! The folder of files: places that are inside it, listings, and files that are taken.
//!
//! A path of names is followed to its real place, symbolic
//! links and all, and that place must lie in the folder. Who can write into the folder by other
//! ways at the same time can move things between that look and the opening: the folder has to
//! belong to somebody who is trusted. Blocking calls, on purpose.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::names::{Denied, Names, UNFINISHED, escape, html};

/// Names that are tried for an unfinished file.
const NAMES_MAX: u32 = 100;
/// Entries of a listing at most; the rest is only mentioned.
const ENTRIES_MAX: usize = 4096;

/// The folder that is served.
#[derive(Debug)]
pub(super) struct Folder {
    /// Its real place.
    root: PathBuf,
    uploads: u64,
}

/// What is in a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file, by its real place.
    File(PathBuf),
    /// A folder, by its real place.
    Folder(PathBuf),
    /// A folder that was asked for without the slash: here is its target.
    Elsewhere(String),
    /// Nothing that is served.
    Nothing,
    /// Something that may not be read.
    Barred,
}

/// A file that is being taken. Dropped before it is kept, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Upload {
    file: File,
    unfinished: PathBuf,
    place: PathBuf,
    is_kept: bool,
}

/// What keeping a file has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// There was nothing before.
    Created,
    /// Another one was there.
    Replaced,
}

impl Folder {
    /// The folder at `dir`.
    ///
    /// # Errors
    /// It is not there, is no folder, or may not be read.
    pub(super) fn open(dir: &Path) -> io::Result<Folder> {
        let found = fs::canonicalize(dir).and_then(|root| fs::read_dir(&root).map(|_| root));
        match found {
            Ok(root) => Ok(Folder { root, uploads: 0 }),
            Err(cause) => {
                let text = format!("cannot serve the folder {}: {cause}", dir.display());
                Err(io::Error::new(cause.kind(), text))
            }
        }
    }

    /// What `names` stand for. Some system calls.
    pub(super) fn find(&self, names: &Names) -> Found {
        if names.has_unfinished() {
            return Found::Nothing;
        }
        let Some((place, metadata)) = self.real(&names.parts) else {
            return Found::Nothing;
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Found::Barred,
            Err(_) => return Found::Nothing,
        };
        if metadata.is_dir() && !names.is_folder {
            return Found::Elsewhere(names.target());
        }
        if metadata.is_dir() {
            return self.inside(place);
        }
        // Neither pipes nor devices: to open one can block, or do something.
        match metadata.is_file() && !names.is_folder {
            true => Found::File(place),
            false => Found::Nothing,
        }
    }

    /// A folder that was asked for: its index, if it has one.
    fn inside(&self, place: PathBuf) -> Found {
        let index = fs::canonicalize(place.join("index.html"));
        match index {
            Ok(index) if index.starts_with(&self.root) && index.is_file() => Found::File(index),
            _ => Found::Folder(place),
        }
    }

    /// The real place of `parts`, and what is there; none: it is outside of the folder.
    fn real(&self, parts: &[OsString]) -> Option<(PathBuf, io::Result<fs::Metadata>)> {
        let mut path = self.root.clone();
        path.extend(parts);
        match fs::canonicalize(&path) {
            Ok(place) if place.starts_with(&self.root) => {
                let metadata = fs::metadata(&place);
                Some((place, metadata))
            }
            Ok(_) => None,
            Err(error) => Some((path, Err(error))),
        }
    }

    /// Begins to take a file that will be called `names`.
    ///
    /// # Errors
    /// There cannot be such a file, or it cannot be written.
    pub(super) fn take(&mut self, names: &Names) -> Result<Upload, Denied> {
        let Some((name, parents)) = names.parts.split_last() else {
            return Err((409, "a folder cannot be replaced"));
        };
        if names.is_folder {
            return Err((409, "the path ends in a slash: it names a folder"));
        }
        if names.has_unfinished() {
            return Err((403, "names like this are for files that are being taken"));
        }
        let Some((folder, metadata)) = self.real(parents) else {
            return Err((404, "there is no such folder"));
        };
        match metadata {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err((409, "a name on the way is that of a file")),
            Err(error) => return Err(denied(&error, (409, "there is no such folder"))),
        }
        let place = folder.join(name);
        match fs::symlink_metadata(&place) {
            Ok(there) if there.is_dir() => return Err((409, "a folder cannot be replaced")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(denied(&error, (500, "the file cannot be written"))),
        }
        self.create(folder, place)
    }

    /// An unfinished file in `folder`, for `place`.
    fn create(&mut self, folder: PathBuf, place: PathBuf) -> Result<Upload, Denied> {
        for _ in 0..NAMES_MAX {
            self.uploads += 1;
            let process = std::process::id();
            let unfinished = folder.join(format!("{UNFINISHED}{process}-{}", self.uploads));
            match File::create_new(&unfinished) {
                Ok(file) => {
                    let is_kept = false;
                    return Ok(Upload {
                        file,
                        unfinished,
                        place,
                        is_kept,
                    });
                }
                // Left by a process of the same number, or of another server in this one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(denied(&error, (500, "the file cannot be written"))),
            }
        }
        Err((500, "there are too many unfinished files"))
    }
}

/// What a failed call means to the client; `other` if nothing special.
pub(super) fn denied(error: &io::Error, other: Denied) -> Denied {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (403, "the server may not do that here")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (507, "there is no room for the file")
        }
        io::ErrorKind::InvalidFilename => (400, "a name in the path is too long"),
        // ENFILE and EMFILE have no kinds of their own.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => {
            (503, "the server has no descriptors left")
        }
        _ => other,
    }
}

impl Upload {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// They cannot be written: the upload is of no more use.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Denied> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| denied(&error, (500, "the file cannot be written")))
    }

    /// Puts the file in its place, in one step. It is not forced to the disk.
    ///
    /// # Errors
    /// It cannot be put there: what was there before stays.
    pub(super) fn keep(mut self) -> Result<Kept, Denied> {
        let was_there = fs::symlink_metadata(&self.place).is_ok();
        fs::rename(&self.unfinished, &self.place)
            .map_err(|error| denied(&error, (500, "the file cannot be put in its place")))?;
        self.is_kept = true;
        Ok(if was_there {
            Kept::Replaced
        } else {
            Kept::Created
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_kept {
            // It may be gone already; if it stays, it is hidden and its name says what it is.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// A page that lists the folder at `place`; names that begin with a dot are left out.
///
/// # Errors
/// It cannot be read.
pub(super) fn listing(place: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    let mut is_whole = true;
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        if names.len() == ENTRIES_MAX {
            is_whole = false;
            break;
        }
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        names.push((name, if is_folder { "/" } else { "" }));
    }
    names.sort();
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Files</title>\n<ul>\n",
    );
    for (name, slash) in &names {
        let shown = html(&name.to_string_lossy());
        // "./" keeps a name with a colon from being read as a scheme.
        let _ = writeln!(
            page,
            "<li><a href=\"./{}{slash}\">{shown}{slash}</a>",
            escape(name)
        );
    }
    page.push_str("</ul>\n");
    if !is_whole {
        let _ = writeln!(page, "<p>Only {ENTRIES_MAX} of the entries are shown.");
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::names::decode;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder of this test alone, which goes with it; `in` is what is served.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Place {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("bestguess-files-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(path.join("in/sub")).unwrap();
            fs::write(path.join("secret"), "secret").unwrap();
            fs::write(path.join("in/a b.txt"), "inside").unwrap();
            Place(path)
        }

        fn folder(&self) -> Folder {
            Folder::open(&self.0.join("in")).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn names(path: &str) -> Names {
        decode(path.as_bytes()).unwrap()
    }

    fn find(folder: &Folder, path: &str) -> Found {
        folder.find(&names(path))
    }

    #[test]
    fn files_and_folders_are_found_by_their_names() {
        let place = Place::new();
        let folder = place.folder();
        let root = folder.root.clone();
        assert_eq!(
            find(&folder, "/a%20b.txt"),
            Found::File(root.join("a b.txt"))
        );
        assert_eq!(find(&folder, "/sub/"), Found::Folder(root.join("sub")));
        assert_eq!(find(&folder, "//sub"), Found::Elsewhere("/sub/".to_owned()));
        assert_eq!(find(&folder, "/"), Found::Folder(root.clone()));
        for path in [
            "/a%20b.txt/",
            "/none",
            "/a%20b.txt/x",
            "/etc/hostname",
            &"/x".repeat(3000),
        ] {
            assert_eq!(find(&folder, path), Found::Nothing, "{path}");
        }
        fs::write(root.join("index.html"), "index").unwrap();
        assert_eq!(find(&folder, "/"), Found::File(root.join("index.html")));
    }

    #[test]
    fn links_that_leave_the_folder_lead_nowhere() {
        let place = Place::new();
        let mut folder = place.folder();
        let root = folder.root.clone();
        symlink("../secret", root.join("file")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("../../secret", root.join("sub/index.html")).unwrap();
        symlink("a b.txt", root.join("good")).unwrap();
        symlink("round", root.join("round")).unwrap();
        for path in [
            "/file",
            "/up/",
            "/up",
            "/up/secret",
            "/up/in/a%20b.txt/..x",
            "/round",
        ] {
            assert_eq!(find(&folder, path), Found::Nothing, "{path}");
        }
        assert_eq!(find(&folder, "/sub/"), Found::Folder(root.join("sub")));
        assert_eq!(find(&folder, "/good"), Found::File(root.join("a b.txt")));
        assert_eq!(folder.take(&names("/up/new")).unwrap_err().0, 404);
        // A link that is replaced is replaced itself: what it led to stays.
        let upload = folder.take(&names("/file")).unwrap();
        assert_eq!(upload.keep(), Ok(Kept::Replaced));
        assert_eq!(fs::read(place.0.join("secret")).unwrap(), b"secret");
    }

    #[test]
    fn a_file_is_there_all_at_once_or_not_at_all() {
        let place = Place::new();
        let mut folder = place.folder();
        let root = folder.root.clone();
        let mut upload = folder.take(&names("/sub/new")).unwrap();
        upload.write(b"half").unwrap();
        assert_eq!(find(&folder, "/sub/new"), Found::Nothing);
        let unfinished = upload
            .unfinished
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(find(&folder, &format!("/sub/{unfinished}")), Found::Nothing);
        assert_eq!(
            folder
                .take(&names(&format!("/{unfinished}")))
                .unwrap_err()
                .0,
            403
        );
        drop(upload);
        assert_eq!(fs::read_dir(root.join("sub")).unwrap().count(), 0);
        let mut upload = folder.take(&names("/sub/new")).unwrap();
        upload.write(b"whole").unwrap();
        assert_eq!(upload.keep(), Ok(Kept::Created));
        assert_eq!(fs::read(root.join("sub/new")).unwrap(), b"whole");
        assert_eq!(
            folder.take(&names("/sub/new")).unwrap().keep(),
            Ok(Kept::Replaced)
        );
        assert_eq!(fs::read_dir(root.join("sub")).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_a_file_is_not_taken() {
        let place = Place::new();
        let mut folder = place.folder();
        for (path, status) in [("/", 409), ("/sub", 409), ("/sub/", 409), ("/no/new", 409)] {
            assert_eq!(folder.take(&names(path)).unwrap_err().0, status, "{path}");
        }
        let long = format!("/{}", "x".repeat(300));
        assert_eq!(folder.take(&names(&long)).unwrap_err().0, 400);
    }

    #[test]
    fn a_listing_is_sorted_and_escaped() {
        let place = Place::new();
        let root = place.folder().root;
        fs::write(root.join("<b>&\"'"), "").unwrap();
        fs::write(root.join(".hidden"), "").unwrap();
        let page = listing(&root).unwrap();
        let items: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("<li>"))
            .collect();
        assert_eq!(
            items,
            [
                "<li><a href=\"./%3Cb%3E%26%22%27\">&lt;b&gt;&amp;&quot;'</a>",
                "<li><a href=\"./a%20b.txt\">a b.txt</a>",
                "<li><a href=\"./sub/\">sub/</a>",
            ]
        );
    }
}
