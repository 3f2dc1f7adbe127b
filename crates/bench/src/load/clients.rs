//! How many clients work at the same time.

use std::num::NonZeroUsize;

use clap::Args;

/// Numbers of clients, each a phase.
#[derive(Clone, Debug, Args)]
pub(crate) struct Clients {
    /// Clients with one request under way each; a phase for each number.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<NonZeroUsize>,
}

impl Clients {
    /// Each number, in the order given.
    pub(crate) fn each(&self) -> impl Iterator<Item = usize> + '_ {
        self.clients.iter().map(|clients| clients.get())
    }

    /// "1, then 16".
    pub(crate) fn text(&self) -> String {
        self.each().map(|clients| clients.to_string()).collect::<Vec<_>>().join(", then ")
    }
}

/// "1 client", "16 clients".
pub(crate) fn clients_text(clients: usize) -> String {
    format!("{clients} client{}", if clients == 1 { "" } else { "s" })
}
