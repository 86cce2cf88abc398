//! The servers.

use std::{process::Stdio, time::Duration};

use rocketjob::{ServerBuilder, prelude::*};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    Anything,
    job::{Begun, PickupJob},
};

/// No job takes as long to begin.
const CAP: Duration = Duration::from_secs(30);

pub(crate) struct Fleet {
    children: Vec<Child>,
    own: Option<Server>,
    begun: UnboundedReceiver<(i64, i64)>,
}

impl Fleet {
    /// Processes of their own.
    pub(crate) async fn start(url: &str, count: usize) -> Anything<Self> {
        let (tell, begun) = unbounded_channel();
        let mut children = Vec::new();
        for _ in 0..count {
            children.push(start(url, tell.clone()).await?);
        }
        Ok(Self {
            children,
            own: None,
            begun,
        })
    }

    /// One server in this process.
    pub(crate) async fn here(store: &Store) -> Anything<Self> {
        let (tell, begun) = unbounded_channel();
        Ok(Self {
            children: Vec::new(),
            own: Some(server(store, tell).start().await?),
            begun,
        })
    }

    /// When job `number` began.
    pub(crate) async fn begun(&mut self, number: i64) -> Anything<i64> {
        let begun = tokio::time::timeout(CAP, self.begun.recv()).await?;
        match begun {
            Some((begun, at)) if begun == number => Ok(at),
            other => Err(format!("{other:?} began in place of {number}").into()),
        }
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.children.iter().filter_map(Child::id).collect()
    }

    pub(crate) async fn end(self) -> Anything<()> {
        for mut child in self.children {
            // The end of its input ends a server.
            drop(child.stdin.take());
            let status = child.wait().await?;
            if !status.success() {
                return Err(format!("a server ended with {status}").into());
            }
        }
        if let Some(own) = self.own {
            own.stop().await?;
        }
        Ok(())
    }
}

async fn start(url: &str, tell: UnboundedSender<(i64, i64)>) -> Anything<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or("the server has no output")?;
    let mut lines = BufReader::new(output).lines();
    let first = lines.next_line().await?;
    if first.as_deref() != Some("ready") {
        return Err(format!("the server said {first:?} in place of `ready`").into());
    }
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let mut words = line.split(' ').filter_map(|word| word.parse().ok());
            if let (Some(number), Some(at)) = (words.next(), words.next()) {
                let _ = tell.send((number, at));
            }
        }
    });
    Ok(child)
}

fn server(store: &Store, tell: UnboundedSender<(i64, i64)>) -> ServerBuilder {
    Server::builder(store)
        .register::<PickupJob>()
        .workers(10)
        .shared(Begun(tell))
}

/// A server process.
pub(crate) async fn serve(url: &str) -> Anything<()> {
    let store = rocketjob::connect(url).await?;
    let (tell, mut begun) = unbounded_channel();
    let server = server(&store, tell).start().await?;
    println!("ready");
    let printing = tokio::spawn(async move {
        while let Some((number, at)) = begun.recv().await {
            println!("{number} {at}");
        }
    });
    let end = async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    server.run_until(end).await?;
    drop(store);
    printing.abort();
    Ok(())
}
