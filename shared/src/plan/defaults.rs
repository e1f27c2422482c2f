//! What a plan file leaves out.

use toml::Table;

use super::{Method, Plan, Training, Unit};

impl Training {
    /// How sampled units train best, as the README's table of F1 against ε measured it: large
    /// batches, of which the same noise is a smaller part, in few and large steps.
    fn of_sampled_units(method: Method) -> Self {
        let (batch_size, learning_rate) = match method {
            Method::Head => (1024, 0.3),
            Method::FfaLora => (256, 5e-3),
            Method::Lora => (256, 3e-3),
            Method::Full => (256, 1e-3),
        };
        Self {
            batch_size,
            learning_rate,
            warmup: 0.0,
            weight_decay: 0.0,
            head_iob2: true,
            ..Self::default()
        }
    }
}

impl Plan {
    /// Where the plan's unit is sampled, gives the keys that `written`, its file, leaves out what
    /// trains best there: the defaults of these keys are for training without noise.
    pub(super) fn fill_in(&mut self, written: &Table) {
        let clip = match self.privacy.unit {
            Unit::Person => 0.01,
            Unit::Document | Unit::Sentence => 0.03,
            Unit::Institution | Unit::None => return,
        };
        let is_left_out = |table: &str, key: &str| {
            let table = written.get(table).and_then(toml::Value::as_table);
            table.is_none_or(|table| !table.contains_key(key))
        };
        if is_left_out("privacy", "clip") {
            self.privacy.clip = clip;
        }
        let (own, fitting) = (&mut self.training, Training::of_sampled_units(self.method));
        if is_left_out("training", "batch_size") {
            own.batch_size = fitting.batch_size;
        }
        if is_left_out("training", "learning_rate") {
            own.learning_rate = fitting.learning_rate;
        }
        if is_left_out("training", "warmup") {
            own.warmup = fitting.warmup;
        }
        if is_left_out("training", "weight_decay") {
            own.weight_decay = fitting.weight_decay;
        }
        if is_left_out("training", "head_iob2") {
            own.head_iob2 = fitting.head_iob2;
        }
    }
}
