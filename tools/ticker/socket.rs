//! The server's socket: batches go in, lines of error come back.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// From one attempt to connect to the next.
const RETRY: Duration = Duration::from_millis(200);
/// A connection that lived so long and ends is worth a word; one that ends at once was told of before.
const LIVED: Duration = Duration::from_secs(1);
/// How long the server's last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection to a server that may go and come back.
#[derive(Debug)]
pub struct Feeder {
    path: PathBuf,
    stream: UnixStream,
    since: Instant,
    is_patient: bool,
    is_told: bool,
    /// What the server said last, on whichever connection: a refusal is told once, not at each attempt.
    said: Arc<Mutex<String>>,
    /// Ends when the server has said all.
    said_all: Receiver<()>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Well,
    /// The server went, and another is there, which knows nothing yet.
    Anew,
}

impl Feeder {
    /// # Errors
    /// Where nobody listens.
    pub fn connect(path: &Path, is_patient: bool) -> io::Result<Feeder> {
        Feeder::open(path, is_patient, Arc::default())
    }

    fn open(path: &Path, is_patient: bool, said: Arc<Mutex<String>>) -> io::Result<Feeder> {
        let stream = UnixStream::connect(path)?;
        let said_all = listen(&stream, said.clone())?;
        Ok(Feeder { path: path.to_owned(), stream, since: Instant::now(), is_patient, is_told: false, said, said_all })
    }

    /// Waits as long as the server takes nothing, and where the feeder is patient until there is a server again.
    ///
    /// # Errors
    /// Where the connection is lost for good.
    pub fn send(&mut self, batch: &str) -> io::Result<Sent> {
        let Err(error) = self.stream.write_all(batch.as_bytes()) else { return Ok(Sent::Well) };
        if !self.is_patient {
            return Err(error);
        }
        if self.since.elapsed() > LIVED {
            self.is_told = false;
        }
        if !self.is_told {
            tell(&format!("{}: {error}; waiting for a server to be there again", self.path.display()));
        }
        loop {
            thread::sleep(RETRY);
            if let Ok(feeder) = Feeder::open(&self.path, true, self.said.clone()) {
                if !self.is_told {
                    tell(&format!("{}: connected again", self.path.display()));
                }
                *self = Feeder { is_told: true, ..feeder };
                return Ok(Sent::Anew);
            }
        }
    }

    /// Says that nothing follows, and hears what the server still says.
    pub fn finish(self) {
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            // It ends by the sender's end or by patience's.
            let _ = self.said_all.recv_timeout(LAST_WORDS);
        }
    }
}

/// Prints what the server answers, from a thread of its own: a server that waits for its reader would be stuck.
fn listen(stream: &UnixStream, said: Arc<Mutex<String>>) -> io::Result<Receiver<()>> {
    let answers = BufReader::new(stream.try_clone()?);
    let (sender, said_all) = channel();
    thread::spawn(move || {
        let _sender = sender;
        for answer in answers.lines().map_while(Result::ok) {
            let mut last = said.lock().unwrap_or_else(PoisonError::into_inner);
            if answer != *last {
                tell(&format!("the server says: {answer}"));
            }
            *last = answer;
        }
    });
    Ok(said_all)
}

/// A line on standard error; where that is closed there is nobody to tell.
pub fn tell(what: &str) {
    let _ = writeln!(io::stderr(), "ticker: {what}");
}
