//! A process of the run: the same program under a subcommand.

use std::{sync::Arc, time::Duration};

use rocketjob::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    sync::mpsc::unbounded_channel,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Anything,
    fleet::{Order, Served, Told},
    held::Held,
    job::Notes,
};

/// How often a server that works tells how far it is.
const TELLS: Duration = Duration::from_millis(5);
/// How often servers beat that are held up: until it has beaten, a server does not know its rank
/// among those that were started after it.
pub(crate) const BEATS: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_mins(1);

/// What a server process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[arg(long)]
    store: String,
    #[arg(long, default_value_t = 10)]
    workers: usize,
    /// Claims nothing until it is told to begin.
    #[arg(long)]
    held: bool,
}

/// Works until its input ends.
pub(crate) async fn serve(serve: &Serve) -> Anything<()> {
    let held = Held::new(rocketjob::connect(&serve.store).await?, serve.held);
    let store = Store::new(held.clone());
    let (sender, mut told) = unbounded_channel();
    let notes = Arc::new(Notes::new(&store, sender));
    let mut server = Server::builder(&store)
        .workers(serve.workers)
        .shared(Arc::clone(&notes));
    if serve.held {
        server = server.heartbeat_interval(BEATS).lease(LEASE);
    }
    let server = server.start().await?;
    tell(&Told::Ready)?;
    let mut orders = Orders::new();
    let mut tells = interval(TELLS);
    tells.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_working = false;
    let mut before = 0;
    loop {
        tokio::select! {
            biased;
            Some(line) = told.recv() => tell(&line)?,
            order = orders.next() => match order? {
                None => break,
                Some(Order::Count) => tell(&Told::Calls(held.calls()))?,
                Some(order) => {
                    is_working = order == Order::Begin;
                    held.hold(order == Order::Hold);
                }
            },
            _ = tells.tick(), if is_working => {
                let settled = server.figures().settled;
                if settled != before {
                    tell(&Told::Settled(settled))?;
                    before = settled;
                }
            }
        }
    }
    notes.let_go();
    let figures = server.figures();
    // What is in the store need not be counted yet; when the server has stopped it is.
    let stopped = server.stop().await?;
    tell(&Told::Served(Served {
        settled: stopped.settled as u64,
        refused: stopped.refused as u64,
        idle: notes.idle_times(),
        ..figures.into()
    }))
}

/// What the process is told from outside.
pub(crate) struct Orders(Lines<BufReader<Stdin>>);

impl Orders {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }

    /// The next order; none when whoever gave them wants no more, or is gone.
    pub(crate) async fn next(&mut self) -> Anything<Option<Order>> {
        let line = self.0.next_line().await?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }
}

/// Says something to who started this process.
#[expect(clippy::print_stdout, reason = "it listens to the output")]
pub(crate) fn tell(told: &Told) -> Anything<()> {
    println!("{}", serde_json::to_string(told)?);
    Ok(())
}
