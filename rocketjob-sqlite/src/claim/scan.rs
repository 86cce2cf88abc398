//! The candidates of a claim: the ready work of many kinds, merged by (priority, id).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
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

/// What was found.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) found: Vec<Row>,
    /// When the next scheduled job falls due; told when fewer were found than asked for.
    pub(super) next_due: Option<Timestamp>,
}

impl Scan {
    pub(super) fn run(&self, connection: &Connection) -> Result<Scanned, Failure> {
        let session = Session::new(connection);
        let wanted = self.skip.saturating_add(self.count);
        let mut merge = Merge::new(self, &session, wanted / self.kinds.len().max(1) + 1)?;
        let mut found = Vec::new();
        while found.len() < wanted {
            let Some(row) = merge.next()? else { break };
            if self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&row.decode()))
            {
                found.push(row);
            }
        }
        if found.len() > self.skip {
            found.drain(..self.skip);
        } else {
            found.truncate(self.count);
        }
        let next_due = if found.len() < self.count {
            hold::next_due(&session, self.now)?
        } else {
            None
        };
        Ok(Scanned { found, next_due })
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
    heads: BinaryHeap<Reverse<(Place, usize)>>,
}

impl<'s> Merge<'s> {
    fn new(scan: &'s Scan, session: &'s Session<'s>, chunk: usize) -> Result<Self, Failure> {
        let mut merge = Self {
            now: scan.now,
            session,
            streams: Vec::with_capacity(scan.kinds.len()),
            heads: BinaryHeap::with_capacity(scan.kinds.len()),
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
        Ok(merge)
    }

    fn next(&mut self) -> Result<Option<Row>, Failure> {
        let Some(Reverse((_, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let row = self.streams[index].rows.pop_front();
        self.advance(index)?;
        Ok(row)
    }

    /// Puts the head of a stream among the others, after reading on where that is needed.
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
            stream.chunk *= 2;
            stream.last = rows.last().map(place).or_else(|| stream.last.take());
            stream.rows = rows.into();
        }
        if let Some(head) = stream.rows.front() {
            self.heads.push(Reverse((place(head), index)));
        }
        Ok(())
    }
}
