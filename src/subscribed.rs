//! Which filters the broker's session of ours may hold, and which triggers have had its retained messages.
//!
//! - A session outlives the process and its configuration, and keeps every filter that it ever got: one that nobody wants any
//!   more would go on to deliver, beside the one that took its place. So the filter of every trigger is on flash *before* it is
//!   subscribed (the link opens behind that commit), and whatever crashes, the session holds nothing that is not recorded.
//! - Every connection that finds its session ends the subscriptions that are recorded and not in this configuration.
//!   UNSUBSCRIBE of what is not there is nothing, and a broker that came back from an old save has old filters again: so a
//!   record is not dropped with its UNSUBACK, but when more than [`EARLIER_BYTES_MAX`] have gathered, oldest first.
//! - A trigger is *new* until its subscription has been granted once: then it takes retained messages that others had before.

use crate::config::{Config, covers};
use crate::entry::{Entries, Space, put_varint, take, take_varint};

/// Bytes of records of earlier configurations that are kept, beside those that this start has made such.
pub const EARLIER_BYTES_MAX: usize = 8 * 1024;

/// Everything that is recorded.
#[derive(Debug, Default)]
pub struct Subscribed {
    session: Vec<u8>,
    /// In the order of [`Config::wishes`].
    wanted: Vec<Wanted>,
    earlier: Vec<Earlier>,
    /// Keys to delete with the next commit.
    gone: Vec<Vec<u8>>,
    /// There was a record of this session, or there is a session that began with us.
    known: bool,
    /// The host under which a session with this client-id is recorded, if it is another one.
    elsewhere: Option<String>,
    epoch: u64,
}

/// What is recorded of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It, or it is new.
    Known,
    /// One of the same client-id at the broker under this other name: perhaps the same.
    Elsewhere(String),
    /// Nothing.
    Unknown,
}

#[derive(Debug)]
struct Wanted {
    key: Vec<u8>,
    filter: String,
    /// The subscribed filter that brings its messages.
    asked: String,
    news: News,
    dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Not granted yet, as far as the record says.
    New,
    /// Granted by this connection; 0: by the last one of an earlier process. What it sent then may come with DUP in the next.
    Granted(u64),
    Old,
}

#[derive(Debug)]
struct Earlier {
    key: Vec<u8>,
    filter: String,
    /// Commit with which it was wanted no more; `None`: the next one.
    since: Option<u64>,
}

const NEW: u8 = 0;
const GRANTED: u8 = 1;
const OLD: u8 = 2;
const EARLIER: u8 = 3;

impl Subscribed {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let broker = &config.broker;
        // Not the port: a broker has several (1883, and 8883 with TLS), and one session for us.
        let session = format!("{}@{}", broker.client_id, broker.host).into_bytes();
        let asked = config.subscriptions();
        let wanted = config.wishes().into_iter().map(|(function, wish)| {
            let filter = wish.filter.to_string();
            let by = asked.iter().find(|one| covers(&one.filter, &wish.filter));
            Wanted {
                key: key(&session, function, &filter),
                asked: by.map_or_else(|| filter.clone(), |one| one.filter.to_string()),
                filter,
                news: News::New,
                dirty: true,
            }
        });
        Self { wanted: wanted.collect(), session, ..Self::default() }
    }

    /// Takes back one entry from flash.
    pub fn restore(&mut self, key: &[u8], mut value: &[u8]) -> Option<()> {
        let (session, filter) = parse(key)?;
        let (state, since) = (*take(&mut value, 1)?.first()?, take_varint(&mut value));
        self.known |= session == self.session;
        // A host name has no `@`.
        let parts = |session: &[u8]| {
            let at = session.iter().rposition(|byte| *byte == b'@')?;
            Some((session[..at].to_vec(), String::from_utf8_lossy(&session[at + 1..]).into_owned()))
        };
        if session != self.session
            && let (Some((own, _)), Some((client_id, host))) = (parts(&self.session), parts(session))
            && own == client_id
        {
            self.elsewhere = Some(host);
        }
        let (news, dirty) = match state {
            GRANTED => (News::Granted(0), false),
            OLD => (News::Old, false),
            // What was left out for a while is new again.
            state => (News::New, state != NEW),
        };
        let mut is_wanted = false;
        for wanted in self.wanted.iter_mut().filter(|wanted| wanted.key == key) {
            (wanted.news, wanted.dirty) = (news, dirty);
            is_wanted = true;
        }
        if is_wanted {
            return Some(());
        }
        let since = if state == EARLIER { Some(since?) } else { None };
        self.earlier.push(Earlier { key: key.to_owned(), filter, since });
        Some(())
    }

    /// Everything is restored. Forgets the oldest records beyond the bound, and returns their number.
    pub fn restored(&mut self) -> usize {
        self.earlier.sort_by_key(|one| one.since.unwrap_or(u64::MAX));
        let mut bytes: usize = self.earlier.iter().filter(|one| one.since.is_some()).map(|one| one.key.len()).sum();
        let before = self.gone.len();
        while EARLIER_BYTES_MAX < bytes {
            let oldest = self.earlier.remove(0);
            bytes -= oldest.key.len();
            self.gone.push(oldest.key);
        }
        self.gone.len() - before
    }

    /// Whether something waits for a commit.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let is_news = self.wanted.iter().any(|one| one.dirty) || self.earlier.iter().any(|one| one.since.is_none());
        is_news || !self.gone.is_empty()
    }

    /// What must not be in the session: of earlier configurations, under whatever name they knew broker and session, and what
    /// another filter covers now.
    #[must_use]
    pub fn unsubscribed(&self) -> Vec<String> {
        let all = self.earlier.iter().map(|one| &one.filter).chain(self.wanted.iter().map(|one| &one.filter));
        let mut filters: Vec<String> =
            all.filter(|filter| self.wanted.iter().all(|one| one.asked != **filter)).cloned().collect();
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// Subscribed filters that bring messages to a trigger that is new.
    #[must_use]
    pub fn fresh(&self) -> Vec<String> {
        let new = self.wanted.iter().filter(|one| one.news == News::New);
        let mut filters: Vec<String> = new.map(|one| one.asked.clone()).collect();
        filters.sort_unstable();
        filters.dedup();
        filters
    }

    /// Whether the trigger of this number among the mqtt triggers takes a retained message that others may have had before.
    #[must_use]
    pub fn is_new(&self, trigger: usize, dup: bool) -> bool {
        self.wanted.get(trigger).is_some_and(|one| match one.news {
            News::New => true,
            News::Granted(epoch) => epoch == self.epoch || dup && epoch + 1 == self.epoch,
            News::Old => false,
        })
    }

    /// A connection was made; what is recorded of the session that it found.
    pub fn connected(&mut self, epoch: u64, session_present: bool) -> Found {
        self.epoch = epoch;
        let is_known = self.known || !session_present;
        self.known = true;
        for one in &mut self.wanted {
            let (before, dirty) = (one.news, one.dirty);
            one.news = match before {
                _ if !session_present => News::New,
                News::New if !is_known => News::Old,
                News::Granted(granted) if granted + 1 < epoch => News::Old,
                before => before,
            };
            // On flash the grant is of the past as soon as a connection has followed it.
            one.dirty =
                dirty || one.news != before || matches!(one.news, News::Granted(granted) if granted + 1 == epoch);
        }
        match &self.elsewhere {
            _ if is_known => Found::Known,
            Some(host) => Found::Elsewhere(host.clone()),
            None => Found::Unknown,
        }
    }

    /// The broker granted these subscriptions.
    pub fn granted(&mut self, filters: &[String]) {
        for one in self.wanted.iter_mut().filter(|one| one.news == News::New && filters.contains(&one.asked)) {
            (one.news, one.dirty) = (News::Granted(self.epoch), true);
        }
    }

    /// Writes what has changed as part of commit number `commit`.
    pub fn seal(&mut self, commit: u64, entries: &mut Entries, scratch: &mut Vec<u8>) {
        for key in self.gone.drain(..) {
            entries.delete(&[&key]);
        }
        for one in self.wanted.iter_mut().filter(|one| one.dirty) {
            one.dirty = false;
            entries.put(&[&one.key], &[one.news.state(self.epoch)]);
        }
        for one in self.earlier.iter_mut().filter(|one| one.since.is_none()) {
            one.since = Some(commit);
            one.save(entries, scratch);
        }
    }

    /// Writes every record, for a snapshot.
    pub fn export(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        self.wanted.iter().for_each(|one| entries.put(&[&one.key], &[one.news.state(self.epoch)]));
        self.earlier.iter().for_each(|one| one.save(entries, scratch));
    }
}

impl News {
    fn state(self, epoch: u64) -> u8 {
        match self {
            Self::New => NEW,
            Self::Granted(granted) if granted == epoch => GRANTED,
            Self::Granted(_) | Self::Old => OLD,
        }
    }
}

impl Earlier {
    fn save(&self, entries: &mut Entries, scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.push(EARLIER);
        put_varint(scratch, self.since.unwrap_or(0));
        entries.put(&[&self.key], scratch);
    }
}

/// `f`, then session and function, each behind its length, then the filter with its share.
fn key(session: &[u8], function: &str, filter: &str) -> Vec<u8> {
    let mut key = vec![Space::Filter as u8];
    for part in [session, function.as_bytes()] {
        put_varint(&mut key, part.len() as u64);
        key.extend_from_slice(part);
    }
    key.extend_from_slice(filter.as_bytes());
    key
}

/// Session and filter of a key.
fn parse(mut key: &[u8]) -> Option<(&[u8], String)> {
    take(&mut key, 1)?;
    let session_len = take_varint(&mut key)?;
    let session = take(&mut key, session_len)?;
    let function_len = take_varint(&mut key)?;
    take(&mut key, function_len)?;
    Some((session, String::from_utf8(key.to_vec()).ok()?))
}
