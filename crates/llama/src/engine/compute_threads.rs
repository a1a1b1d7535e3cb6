//! [`ComputeThreads`]: how many threads compute a step. Alone on a machine, that is one for each
//! core. Beside other busy programs, or other models, fewer threads are often faster, because the
//! threads of a step wait for each other in every layer, and the slowest one sets the pace.
//!
//! Only the times of steps are compared: with the engine's own best, to notice that something
//! disturbs it, and between numbers of threads. Pure: the caller measures the times.

use std::time::Duration;

/// The number of steps whose median stands for a number of threads.
const WINDOW: usize = 8;

/// The steps of a trial of another number of threads. The first of them is not counted.
const TRIAL: usize = 6;

/// A step is disturbed if it takes this many times as long as the best one with as many rows.
const DISTURBED: f64 = 1.3;

/// Another number of threads must be this much faster.
const FASTER: f64 = 0.93;

/// A trial ends at once if a step takes this many times as long as before.
const HOPELESS: f64 = 2.5;

/// The number of steps between two trials. It doubles each time that a trial changes nothing.
const FIRST_PAUSE: usize = 24;
const LONGEST_PAUSE: usize = 768;

/// The maximum number of rows of a step that counts. Longer ones read prompts, whose time is less
/// regular, and which all threads read together: their work is large enough that the waiting does
/// not matter.
pub(super) const MOST_ROWS: usize = 16;

/// The best time of a step is forgotten slowly, because steps get slower as conversations grow.
const FORGETTING: f64 = 1.001;

/// Chooses the number of threads of each step.
#[derive(Debug)]
pub(super) struct ComputeThreads {
    /// The numbers of threads that are tried: all of them, and less and less.
    numbers: Vec<i32>,
    /// The index of the number that is used.
    at: usize,
    /// The shortest recent time of a step, by its number of rows.
    best: [Option<f64>; MOST_ROWS + 1],
    /// The rows of the steps in `times`.
    rows: usize,
    /// The times of the last steps with the number that is used, oldest first.
    times: Vec<f64>,
    trial: Option<Trial>,
    /// The number of steps since the last trial.
    since: usize,
    /// The number of steps before the next trial, of fewer and of more threads.
    pauses: [usize; 2],
    /// Whether fewer threads have ever been tried. If not, the machine may have been busy from the
    /// start, and the best time is not reliable.
    has_tried: bool,
}

#[derive(Debug)]
struct Trial {
    /// The index of the number that is tried.
    at: usize,
    /// The median before the trial.
    before: f64,
    times: Vec<f64>,
}

impl ComputeThreads {
    /// Starts with all of `most` threads.
    pub(super) fn new(most: i32) -> Self {
        let most = most.max(1);
        let mut numbers = vec![most];
        let mut next = most - 1;
        while next >= 1 {
            numbers.push(next);
            // One less helps beside one busy program, and half beside another model.
            next = if next == most - 1 && most > 3 {
                most / 2
            } else {
                next / 2
            };
        }
        Self {
            numbers,
            at: 0,
            best: [None; MOST_ROWS + 1],
            rows: 0,
            times: Vec::new(),
            trial: None,
            since: 0,
            pauses: [FIRST_PAUSE; 2],
            has_tried: false,
        }
    }

    /// The number of threads for the next step. `rows` is `None` for a step that does not count.
    pub(super) fn next(&mut self, rows: Option<usize>) -> i32 {
        let Some(rows) = counted(rows) else {
            return self.numbers[0];
        };
        if rows != self.rows {
            // Steps with other numbers of rows cannot be compared.
            self.rows = rows;
            self.times.clear();
            self.trial = None;
        }
        let at = self.trial.as_ref().map_or(self.at, |trial| trial.at);
        self.numbers[at]
    }

    /// Notes the time of the step that [`next`](Self::next) was called for. Returns the new number
    /// of threads, if it has changed.
    pub(super) fn took(&mut self, rows: Option<usize>, time: Duration) -> Option<i32> {
        let rows = counted(rows)?;
        let time = time.as_secs_f64();
        if let Some(trial) = self.trial.take() {
            return self.took_in_trial(trial, time);
        }
        self.took_as_usual(rows, time);
        None
    }

    fn took_as_usual(&mut self, rows: usize, time: f64) {
        self.since += 1;
        self.times.push(time);
        if self.times.len() > WINDOW {
            self.times.remove(0);
        }
        let best = self.best[rows].map_or(time, |best| (best * FORGETTING).min(time));
        self.best[rows] = Some(best);
        if self.times.len() < WINDOW {
            return;
        }
        let before = median(&self.times);
        let is_disturbed = before > best * DISTURBED || !self.has_tried;
        let [fewer, more] = self.pauses;
        // More threads first: that is where the engine belongs.
        let at = if self.at > 0 && self.since >= more {
            self.at - 1
        } else if is_disturbed && self.since >= fewer && self.at + 1 < self.numbers.len() {
            self.at + 1
        } else {
            return;
        };
        self.trial = Some(Trial {
            at,
            before,
            times: Vec::new(),
        });
    }

    fn took_in_trial(&mut self, mut trial: Trial, time: f64) -> Option<i32> {
        trial.times.push(time);
        // The first step starts or ends threads.
        let counted = &trial.times[1..];
        let is_hopeless = counted.last() > Some(&(trial.before * HOPELESS));
        if counted.len() + 1 < TRIAL && !is_hopeless {
            self.trial = Some(trial);
            return None;
        }
        let tries_fewer = trial.at > self.at;
        self.has_tried |= tries_fewer;
        self.since = 0;
        if !is_hopeless && median(counted) < trial.before * FASTER {
            self.at = trial.at;
            self.times.clear();
            self.pauses = [FIRST_PAUSE; 2];
            return Some(self.numbers[self.at]);
        }
        let pause = &mut self.pauses[usize::from(!tries_fewer)];
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        if tries_fewer {
            // Steps with this many rows now take this time, whatever the reason.
            self.best[self.rows] = Some(trial.before);
        }
        None
    }
}

fn counted(rows: Option<usize>) -> Option<usize> {
    rows.filter(|rows| (1..=MOST_ROWS).contains(rows))
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milliseconds of a step on a machine, by its number of threads.
    type Machine = fn(i32) -> u64;

    /// Two cores for us alone.
    const QUIET: Machine = |threads| 20 / u64::from(threads.unsigned_abs());

    /// Other programs use both cores: two threads wait for each other.
    const BUSY: Machine = |threads| if threads == 1 { 22 } else { 80 };

    /// Makes steps with one row. Returns the milliseconds of all of them.
    fn run(threads: &mut ComputeThreads, machine: Machine, steps: usize) -> u64 {
        let step = |threads: &mut ComputeThreads| {
            let time = machine(threads.next(Some(1)));
            threads.took(Some(1), Duration::from_millis(time));
            time
        };
        (0..steps).map(|_| step(threads)).sum()
    }

    fn used(threads: &ComputeThreads) -> i32 {
        threads.numbers[threads.at]
    }

    #[test]
    fn a_quiet_machine_is_used_whole_and_costs_one_trial() {
        let mut threads = ComputeThreads::new(2);
        let time = run(&mut threads, QUIET, 2000);
        assert_eq!(used(&threads), 2);
        assert!(time <= 2000 * 10 + 6 * 10, "{time}");
    }

    #[test]
    fn a_disturbed_engine_takes_fewer_threads_and_all_of_them_when_it_is_quiet_again() {
        let mut threads = ComputeThreads::new(2);
        run(&mut threads, QUIET, 500);
        // The next trial comes directly after the pause that the trial on the quiet machine has
        // doubled.
        run(&mut threads, BUSY, 2 * FIRST_PAUSE + WINDOW + TRIAL);
        assert_eq!(used(&threads), 1);
        // In the long run, the trials cost little.
        let time = run(&mut threads, BUSY, 2000);
        assert!(time < 2000 * 22 * 105 / 100, "{time}");
        assert_eq!(used(&threads), 1);
        run(&mut threads, QUIET, LONGEST_PAUSE + WINDOW + TRIAL);
        assert_eq!(used(&threads), 2);
    }

    #[test]
    fn an_engine_that_starts_on_a_busy_machine_notices_it_without_a_best_time() {
        let mut threads = ComputeThreads::new(2);
        run(&mut threads, BUSY, FIRST_PAUSE + WINDOW + TRIAL);
        assert_eq!(used(&threads), 1);
    }

    #[test]
    fn steps_that_grow_longer_by_themselves_do_not_take_threads_away() {
        let mut threads = ComputeThreads::new(2);
        for step in 0..3000_u64 {
            let number = u64::from(threads.next(Some(1)).unsigned_abs());
            let time = Duration::from_micros((10_000 + 10 * step) * 2 / number);
            threads.took(Some(1), time);
        }
        assert_eq!(used(&threads), 2);
    }

    #[test]
    fn steps_of_different_rows_are_not_compared_and_prompts_get_all_threads() {
        let mut threads = ComputeThreads::new(2);
        run(&mut threads, BUSY, 200);
        assert_eq!(used(&threads), 1);
        assert_eq!(threads.next(None), 2);
        assert_eq!(threads.next(Some(MOST_ROWS + 1)), 2);
        // A step with more rows takes longer. That is no disturbance.
        let mut threads = ComputeThreads::new(2);
        run(&mut threads, QUIET, 100);
        for step in 0..400 {
            let rows = 1 + step % 2;
            let number = threads.next(Some(rows));
            assert_eq!(number, 2);
            let time = QUIET(number) * rows as u64;
            threads.took(Some(rows), Duration::from_millis(time));
        }
    }

    #[test]
    fn a_machine_with_many_cores_gives_them_up_one_after_the_other() {
        assert_eq!(ComputeThreads::new(8).numbers, [8, 7, 4, 2, 1]);
        assert_eq!(ComputeThreads::new(4).numbers, [4, 3, 2, 1]);
        assert_eq!(ComputeThreads::new(3).numbers, [3, 2, 1]);
        assert_eq!(ComputeThreads::new(1).numbers, [1]);
        // One core is taken: seven threads are best.
        let machine: Machine = |threads| {
            if threads == 8 {
                60
            } else {
                160 / u64::from(threads.unsigned_abs())
            }
        };
        let mut threads = ComputeThreads::new(8);
        run(&mut threads, machine, 400);
        assert_eq!(used(&threads), 7);
    }
}
