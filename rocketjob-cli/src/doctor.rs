//! `doctor`: what is wrong with a store and with those who work on it.

use rocketjob_core::{Finding, Severity, Store, examine};

use crate::{failure::Failure, output::Output};

/// Tells what is wrong, and fails when it is more than a note.
pub(crate) async fn doctor(store: &Store, output: &Output) -> Result<(), Failure> {
    let diagnosis = examine(&**store).await?;
    if output.is_json() {
        output.serialized(&diagnosis)?;
    } else {
        output.line(&format!("store      {}", diagnosis.address))?;
        if let Some(inspection) = &diagnosis.inspection {
            output.line(&format!("product    {}", inspection.product))?;
            output.line(&format!("topology   {}", inspection.topology))?;
            output.line(&format!("durability {}", inspection.durability))?;
        }
        output.line(&format!("servers    {} alive", diagnosis.live_servers))?;
        for finding in &diagnosis.findings {
            output.line(&text(finding))?;
        }
    }
    let worse_than_notes = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.severity > Severity::Note)
        .count();
    match worse_than_notes {
        0 => Ok(()),
        1 => Err(Failure::other("one thing is not as it should be")),
        several => Err(Failure::other(format!(
            "{several} things are not as they should be"
        ))),
    }
}

/// What was found, and on a line of its own what to do about it.
fn text(finding: &Finding) -> String {
    let severity = finding.severity.as_str();
    format!("\n{severity}: {}\n  → {}", finding.what, finding.remedy)
}
