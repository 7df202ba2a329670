//! Turns: the servers of a group once more, a short while each, round after round.
//!
//! Criterion measures one row after another, seconds apart, and a machine that changes its speed meanwhile makes one
//! server look better than the next. Within a round the turns follow at once, and so their ratio is theirs.

use crate::{Figure, Server, Session};

const ROUNDS: usize = 9;

/// Lets each have its turns, and prints what came of it: server time, and campanile's as a part of that.
pub(crate) fn take(name: &str, mut sessions: Vec<Session<'_>>) {
    // Rows that were only tried, as tests do, have no samples to repeat; one by itself has nobody to take turns with.
    if sessions.len() < 2 || sessions.iter().any(|session| session.times <= 1) {
        return;
    }
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let turn = |session: &mut Session<'_>| {
            let times = session.times;
            session.run(times, Figure::ServerTime).as_secs_f64() / times as f64 * 1e6
        };
        rounds.push(sessions.iter_mut().map(turn).collect::<Vec<f64>>());
    }
    let campanile = sessions.iter().position(|session| session.server == Server::Campanile);
    eprintln!(
        "\nby turns: {name}: us of server time, and campanile's as a part of it; medians of {ROUNDS} rounds"
    );
    for (nth, session) in sessions.iter().enumerate() {
        let times = spread(rounds.iter().map(|round| round[nth]).collect());
        let ratio = campanile.filter(|&ours| ours != nth).map(|ours| {
            format!("  {}", spread(rounds.iter().map(|round| round[ours] / round[nth]).collect()))
        });
        eprintln!("  {:18}{times:28}{}", session.server.name(), ratio.unwrap_or_default());
    }
    eprintln!();
}

/// The median of some figures, and the least and the most of them.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let (middle, last) = (figures.len() / 2, figures.len() - 1);
    format!("{:.2} ({:.2} to {:.2})", figures[middle], figures[0], figures[last])
}
