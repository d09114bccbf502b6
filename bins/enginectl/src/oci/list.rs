//! `state` and `list`.

use std::fmt::Write;

use super::failure::Failure;
use super::flags::{Place, switch, value};
use super::state::{Record, Shown};
use super::{Call, Verb};

pub(super) const STATE: Verb = Verb {
    name: "state",
    words: "ID",
    about: "Print the state of a container",
    flags: &[],
    place: Place::Anywhere,
    count: (1, 1),
    run: |call| {
        let runtime = call.runtime()?;
        call.print_json(&Record::read(&runtime, call.id())?.show(&runtime)?)?;
        Ok(0)
    },
};

pub(super) const LIST: Verb = Verb {
    name: "list",
    words: "",
    about: "List the containers of a root",
    flags: &[value(&["format", "f"], "table or json"), switch(&["quiet", "q"], "print names only")],
    place: Place::Anywhere,
    count: (0, 0),
    run: list,
};

/// Whose all containers are: nobody else can run this.
const OWNER: &str = "root";

fn list(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let mut all = Vec::new();
    for id in runtime.containers()? {
        // One without a record is being made or taken away.
        let Ok(record) = Record::read(&runtime, &id) else { continue };
        let mut shown = record.show(&runtime)?;
        OWNER.clone_into(&mut shown.owner);
        all.push(shown);
    }
    if call.given.is_on("quiet") {
        let names: String = all.iter().map(|container| format!("{}\n", container.id)).collect();
        call.print(&names)?;
        return Ok(0);
    }
    match call.given.get("format").unwrap_or("table") {
        "table" => call.print(&table(&all))?,
        "json" if all.is_empty() => call.print("null\n")?,
        "json" => {
            let text = serde_json::to_string(&all).map_err(|error| Failure::new(error.to_string()))?;
            call.print(&format!("{text}\n"))?;
        }
        _ => return Err(Failure::new("invalid format option")),
    }
    Ok(0)
}

fn table(all: &[Shown]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |container: &Shown| {
        [
            container.id.clone(),
            container.pid.to_string(),
            container.status.to_owned(),
            container.bundle.display().to_string(),
            container.created.clone(),
            container.owner.clone(),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(all.iter().map(row)).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let width = if column == 5 { 0 } else { (widest + 3).max(12) };
            let _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
    text
}
