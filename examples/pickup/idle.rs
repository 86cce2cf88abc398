//! What idle servers cost.

use std::{collections::BTreeMap, fs, time::Duration};

use bson::{Document, doc};
use mongodb::Client;
use tokio::time::{Instant, sleep};

use crate::Anything;

/// Watches the processes for `time`, and says what they cost.
pub(crate) async fn watch(
    processes: &[u32],
    url: &str,
    is_mongodb: bool,
    time: Duration,
) -> Anything<()> {
    let client = if is_mongodb {
        Some(Client::with_uri_str(url).await?)
    } else {
        None
    };
    let before = Costs::read(processes, client.as_ref()).await?;
    let began = Instant::now();
    sleep(time).await;
    let after = Costs::read(processes, client.as_ref()).await?;
    let seconds = began.elapsed().as_secs_f64();
    let count = u32::try_from(processes.len()).map_or(f64::NAN, f64::from);
    if client.is_some() {
        let each = |kind: &String, after: &i64| {
            let more = after - before.operations.get(kind).unwrap_or(&0);
            u32::try_from(more).map_or(f64::NAN, f64::from) / seconds / count
        };
        let rates: BTreeMap<_, _> = after
            .operations
            .iter()
            .map(|(kind, after)| (kind, each(kind, after)))
            .collect();
        let kinds: Vec<_> = rates
            .iter()
            .map(|(kind, rate)| format!("{kind} {rate:.2}"))
            .collect();
        println!(
            "  operations/s of each server: {:.2} ({})",
            rates.values().sum::<f64>(),
            kinds.join(", ")
        );
    }
    let busy = (after.ticks - before.ticks) / TICKS / seconds / count * 100.0;
    println!("  processor of each server: {busy:.2} % of a core");
    println!(
        "  memory of each server: {:.1} MB on average, {:.1} MB at most",
        after.kilobytes.iter().sum::<f64>() / 1e3 / count,
        after.kilobytes.iter().fold(0.0, |most, one| one.max(most)) / 1e3
    );
    Ok(())
}

/// How many ticks of the system are a second: the same on every Linux.
const TICKS: f64 = 100.0;

struct Costs {
    operations: BTreeMap<String, i64>,
    ticks: f64,
    kilobytes: Vec<f64>,
}

impl Costs {
    async fn read(processes: &[u32], client: Option<&Client>) -> Anything<Self> {
        let mut operations = BTreeMap::new();
        if let Some(client) = client {
            let status = client
                .database("admin")
                .run_command(doc! { "serverStatus": 1 })
                .await?;
            let counters: &Document = status.get_document("opcounters")?;
            for kind in ["insert", "query", "update", "delete", "getmore", "command"] {
                let count = counters.get(kind).and_then(rocketjob::whole_number);
                operations.insert(kind.to_owned(), count.unwrap_or(0));
            }
        }
        let (mut ticks, mut kilobytes) = (0.0, Vec::new());
        for process in processes {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
            // Behind the name, which may contain anything: `utime` and `stime` are fields 14 and 15.
            let fields: Vec<_> = stat
                .rsplit(')')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect();
            for field in [11, 12] {
                ticks += fields.get(field).unwrap_or(&"0").parse::<f64>()?;
            }
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let resident = resident.and_then(|text| text.split_whitespace().next());
            kilobytes.push(resident.unwrap_or("0").parse::<f64>()?);
        }
        Ok(Self {
            operations,
            ticks,
            kilobytes,
        })
    }
}
