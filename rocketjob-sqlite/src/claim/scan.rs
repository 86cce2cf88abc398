//! The candidates of a claim: the ready work of many kinds, merged by (priority, id).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
    sync::Arc,
};

use jiff::Timestamp;
use rocketjob_core::Filter;
use rusqlite::{Connection, params};

use crate::{error::Failure, hold, row::Row, session::Session, sql};

/// A place in the order of claims.
pub(super) type Place = (i64, Vec<u8>);

pub(super) fn place(row: &Row) -> Place {
    (row.place(), row.id.clone())
}

/// What is looked for.
#[derive(Debug)]
pub(super) struct Scan {
    /// Each of them once.
    pub(super) kinds: Arc<[String]>,
    pub(super) filter: Option<Filter>,
    /// In milliseconds.
    pub(super) now: i64,
    /// How many at the head are left alone if anything lies behind them.
    pub(super) skip: usize,
    /// Only what follows on this place.
    pub(super) behind: Option<Place>,
    pub(super) count: usize,
}

/// How many rows are read at once, at most: they are looked at while the next are read.
const MOST_ROWS: usize = 128;

/// What was found.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) found: usize,
    pub(super) last: Option<Place>,
    /// When the next scheduled job falls due; told when fewer were found than asked for.
    pub(super) next_due: Option<Timestamp>,
}

impl Scan {
    /// Gives what it finds to `tell`, in order and a part at a time.
    pub(super) fn run(
        &self,
        connection: &Connection,
        mut tell: impl FnMut(Vec<Row>),
    ) -> Result<Scanned, Failure> {
        let session = Session::new(connection);
        let wanted = self.skip.saturating_add(self.count);
        let chunk = wanted / self.kinds.len().max(1) + 1;
        let mut merge = Merge::new(self, &session, chunk.min(MOST_ROWS / 2))?;
        let mut scanned = Scanned {
            found: 0,
            last: None,
            next_due: None,
        };
        let mut tell = |rows: Vec<Row>, scanned: &mut Scanned| {
            scanned.found += rows.len();
            scanned.last = rows.last().map(place).or_else(|| scanned.last.take());
            if !rows.is_empty() {
                tell(rows);
            }
        };
        let (mut seen, mut rows) = (0, Vec::new());
        while seen < wanted {
            let Some(row) = merge.next()? else { break };
            if self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&row.decode()))
            {
                seen += 1;
                rows.push(row);
                if seen == self.skip + 1 {
                    rows.drain(..self.skip);
                }
                if seen > self.skip && rows.len() == MOST_ROWS / 2 {
                    tell(mem::take(&mut rows), &mut scanned);
                }
            }
        }
        if seen <= self.skip {
            // Nothing lies behind those that were to be left alone.
            rows.truncate(self.count);
        }
        tell(rows, &mut scanned);
        if scanned.found < self.count {
            scanned.next_due = hold::next_due(&session, self.now)?;
        }
        Ok(scanned)
    }
}

/// The ready work of one kind, read a little at a time.
#[derive(Debug)]
struct Stream<'s> {
    kind: &'s str,
    rows: VecDeque<Row>,
    last: Option<Place>,
    is_at_end: bool,
    chunk: usize,
}

/// The streams of all kinds as one.
#[derive(Debug)]
struct Merge<'s> {
    now: i64,
    session: &'s Session<'s>,
    streams: Vec<Stream<'s>>,
    /// The heads of all but the current one.
    heads: BinaryHeap<Reverse<(Place, usize)>>,
    /// The stream of the last row.
    current: Option<usize>,
    /// Whether all streams have been looked at.
    is_begun: bool,
}

impl<'s> Merge<'s> {
    fn new(scan: &'s Scan, session: &'s Session<'s>, chunk: usize) -> Result<Self, Failure> {
        let mut merge = Self {
            now: scan.now,
            session,
            streams: Vec::with_capacity(scan.kinds.len()),
            heads: BinaryHeap::with_capacity(scan.kinds.len()),
            current: None,
            is_begun: false,
        };
        for (index, kind) in scan.kinds.iter().enumerate() {
            merge.streams.push(Stream {
                kind,
                rows: VecDeque::new(),
                last: scan.behind.clone(),
                is_at_end: false,
                chunk,
            });
            merge.advance(index)?;
        }
        merge.is_begun = true;
        Ok(merge)
    }

    fn next(&mut self) -> Result<Option<Row>, Failure> {
        if let Some(index) = self.current.take() {
            self.advance(index)?;
        }
        if self.current.is_none() {
            self.current = self.heads.pop().map(|Reverse((_, index))| index);
        }
        Ok(self
            .current
            .and_then(|index| self.streams[index].rows.pop_front()))
    }

    /// Stays with a stream while its head comes first, or puts the head among the others; reads on
    /// where that is needed.
    fn advance(&mut self, index: usize) -> Result<(), Failure> {
        let stream = &mut self.streams[index];
        if stream.rows.is_empty() && !stream.is_at_end {
            let limit = i64::try_from(stream.chunk).unwrap_or(i64::MAX);
            let rows = match &stream.last {
                None => self
                    .session
                    .rows(sql::CLAIM, params![stream.kind, self.now, limit])?,
                Some((priority, id)) => self.session.rows(
                    sql::CLAIM_BEHIND,
                    params![stream.kind, self.now, limit, priority, id],
                )?,
            };
            stream.is_at_end = rows.len() < stream.chunk;
            stream.chunk = (stream.chunk * 2).min(MOST_ROWS);
            stream.last = rows.last().map(place).or_else(|| stream.last.take());
            stream.rows = rows.into();
        }
        let Some(head) = stream.rows.front() else {
            return Ok(());
        };
        let comes_first = self.is_begun
            && self
                .heads
                .peek()
                .is_none_or(|Reverse(((priority, id), _))| {
                    (head.place(), &head.id) < (*priority, id)
                });
        if comes_first {
            self.current = Some(index);
        } else {
            self.heads.push(Reverse((place(head), index)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use rocketjob_core::{Filter, JobDocument, JobStore};
    use tempfile::TempDir;

    use super::*;
    use crate::SqliteStore;

    const JOBS: usize = 400;

    /// Jobs of two kinds and four priorities, and their ids in the order of claims.
    async fn filled(store: &SqliteStore) -> Vec<Vec<u8>> {
        let mut places = Vec::new();
        let mut jobs = Vec::new();
        for number in 0..JOBS {
            let (id, priority) = (store.next_id(), number % 4);
            let kind = if number % 3 == 1 { "B" } else { "A" };
            let document = doc! {
                "_id": id, "_type": kind, "state": "queued", "ready": true,
                "priority": i32::try_from(priority).unwrap(),
            };
            jobs.push(JobDocument::new(document).unwrap());
            places.push((priority, id.bytes().to_vec()));
        }
        store.insert(jobs).await.unwrap();
        places.sort();
        places.into_iter().map(|(_, id)| id).collect()
    }

    async fn scan(store: &SqliteStore, skip: usize, count: usize) -> (Vec<Vec<u8>>, Scanned) {
        let scan = Scan {
            kinds: ["A".to_owned(), "B".to_owned()].into(),
            filter: Some(Filter::exists("_type")),
            now: store.time().as_millisecond(),
            skip,
            behind: None,
            count,
        };
        let reading = store.read(move |connection| {
            let mut ids = Vec::new();
            let scanned = scan.run(connection, |rows| {
                assert!(skip >= JOBS || rows.len() <= MOST_ROWS / 2);
                ids.extend(rows.into_iter().map(|row| row.id));
            })?;
            Ok((ids, scanned))
        });
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn what_is_told_in_parts_is_the_whole_in_order() {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path().join("jobs.db")).await;
        let store = store.unwrap();
        let all = filled(&store).await;
        for count in [1, 63, 64, 65, 200, 399, 400, 500] {
            for skip in [0, 1, 64, 100, 399] {
                let (ids, scanned) = scan(&store, skip, count).await;
                let end = (skip + count).min(JOBS);
                assert_eq!(ids, all[skip..end], "{count} behind {skip}");
                assert_eq!(scanned.found, ids.len());
                assert_eq!(scanned.last.map(|(_, id)| id).as_ref(), ids.last());
            }
            for skip in [400, 1000] {
                let (ids, _) = scan(&store, skip, count).await;
                let end = count.min(JOBS);
                assert_eq!(ids, all[..end], "nothing lies behind {skip}");
            }
        }
    }
}
