//! What is answered to who asks at the admin listener, and what is done for them.

use log::info;

use super::super::Proxy;
use super::super::change::{Change, Refusal};
use crate::admin::answer::{Answer, Content, EXPOSITION, HTML, JSON, TEXT};
use crate::admin::ask::{Ask, Deed, Denied};
use crate::admin::json::Json;
use crate::admin::page::PAGE;
use crate::admin::session::Asked;
use crate::admin::{OPENAPI, exposition, status, write_event};
use crate::mutant::{self, Mutant};
use crate::net::Net;

/// Weights that can be given.
const WEIGHT_LEAST: f64 = 0.001;
const WEIGHT_MOST: f64 = 1e6;

impl<N: Net> Proxy<N> {
    /// The answer to what was asked.
    pub(super) fn answer_admin(&mut self, asked: &Asked) -> Answer {
        let ask = match &asked.ask {
            Ok(ask) => ask,
            Err(denied) => return denied.clone().into(),
        };
        if self.admin.is_replaced && ask.needs_charge() && !mutant::is(Mutant::ElderObeysOrders) {
            let text = "another process has taken over: ask again, on a new connection";
            return Denied::new(421, text).into();
        }
        let mut out = Vec::new();
        match ask {
            Ask::Page => Answer::good(HTML, PAGE),
            Ask::OpenApi => Answer::good(JSON, OPENAPI),
            Ask::Health => Answer::good(TEXT, status::own_report(&self.view()).to_string()),
            Ask::Metrics => {
                exposition::write(&mut out, &self.view());
                Answer::good(EXPOSITION, out)
            }
            Ask::Status => {
                status::write(&mut Json::new(&mut out), &self.view());
                Answer::good(JSON, out)
            }
            Ask::Servers => {
                let view = self.view();
                status::servers(&mut Json::new(&mut out), view.clock, &view.servers);
                Answer::good(JSON, out)
            }
            Ask::Server(name) => self.answer_server(name, 200),
            Ask::Guesses { as_text, limit } => {
                let (choices, servers) = (&self.admin.choices, &self.config.servers);
                if *as_text {
                    choices.table(&mut out, self.clock(), servers, *limit);
                    Answer::good(TEXT, out)
                } else {
                    choices.write(&mut Json::new(&mut out), self.clock(), servers, *limit);
                    Answer::good(JSON, out)
                }
            }
            Ask::Events if !self.admin.takes_subscriber() => {
                Answer::line(429, "as many read events as may at once")
            }
            Ask::Events => {
                write_event(&mut out, "hello", |json| status::write(json, &self.view()));
                Answer {
                    status: 200,
                    allow: None,
                    content: Content::Events(out),
                }
            }
            Ask::Add | Ask::Change(..) => self.answer_change(ask, &asked.content),
        }
    }

    /// One server as it is now.
    fn answer_server(&self, name: &str, good: u16) -> Answer {
        let rows = (0..self.servers.len()).filter_map(|index| self.row(index));
        // A server that leaves and one that has come may have the same name: the newest counts.
        let Some(row) = rows.filter(|row| row.name == name).last() else {
            return Denied::new(404, Refusal::Unknown(name.to_owned()).to_string()).into();
        };
        let mut out = Vec::new();
        status::server(&mut Json::new(&mut out), self.clock(), &row);
        Answer {
            status: good,
            ..Answer::good(JSON, out)
        }
    }

    /// Makes a change and shows what came of it.
    fn answer_change(&mut self, ask: &Ask, content: &[u8]) -> Answer {
        let (change, name, good) = match self.change_asked(ask, content) {
            Ok(found) => found,
            Err(denied) => return denied.into(),
        };
        info!("admin: {change:?}");
        if mutant::is(Mutant::OrderNotCarriedOut) {
            return self.answer_server(&name, good);
        }
        if let Err(refusal) = self.change(change) {
            let status = match refusal {
                Refusal::Unknown(_) => 404,
                Refusal::Amount(_) => 400,
                Refusal::Known(_) | Refusal::Itself(_) | Refusal::Last | Refusal::TooMany => 409,
            };
            return Denied::new(status, refusal.to_string()).into();
        }
        match ask {
            Ask::Change(_, Deed::Remove) => self.answer_removal(&name),
            _ => self.answer_server(&name, good),
        }
    }

    /// How far the removal of a server has got.
    fn answer_removal(&self, name: &str) -> Answer {
        let mut rows = (0..self.servers.len()).filter_map(|index| self.row(index));
        let left = rows.find(|row| row.name == name).map(|row| row.in_flight);
        let mut out = Vec::new();
        Json::new(&mut out).object(|json| {
            json.key("name").text(name);
            json.key("has_left").truth(left.is_none());
            json.key("in_flight").whole(left.unwrap_or(0));
        });
        Answer::good(JSON, out)
    }

    /// What is to be changed, the server's name, and the status that says that it was.
    fn change_asked(&self, ask: &Ask, content: &[u8]) -> Result<(Change, String, u16), Denied> {
        let text = || {
            let text = std::str::from_utf8(content).map(str::trim);
            text.map_err(|_| Denied::new(400, "the content is not UTF-8"))
        };
        let (name, deed) = match ask {
            Ask::Change(name, deed) => (name.clone(), *deed),
            _ => {
                let read = self.admin.read_server;
                let server = read(text()?).map_err(|expected| {
                    let text = format!("the content names the server: expected {expected}");
                    Denied::new(400, text)
                })?;
                let name = server.name.clone();
                return Ok((Change::Add(server), name, 201));
            }
        };
        let change = match deed {
            Deed::Drain => Change::Drain(name.clone()),
            Deed::Enable => Change::Enable(name.clone()),
            Deed::Disable => Change::Disable(name.clone()),
            Deed::Remove => Change::Remove(name.clone()),
            Deed::Weigh => {
                let weight = text()?.parse().ok().filter(|weight: &f64| {
                    weight.is_finite() && (WEIGHT_LEAST..=WEIGHT_MOST).contains(weight)
                });
                let expected = "the content is the weight: a number from 0.001 to 1000000, e.g. 2";
                Change::Weigh(
                    name.clone(),
                    weight.ok_or_else(|| Denied::new(400, expected))?,
                )
            }
        };
        Ok((change, name, 200))
    }
}
