use std::{fmt, sync::Arc};

/// The label that holds a metric's name.
pub const NAME: &str = "__name__";

type Pair = (Arc<str>, Arc<str>);

/// The labels of a series: sorted by name, none empty, none twice. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[Pair]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Labels {
    /// Of a name that comes twice the last value counts; an empty value is no label.
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        let mut pairs: Vec<Pair> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        // Stable, so that the last of a name stays the last.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.reverse();
        pairs.dedup_by(|a, b| a.0 == b.0);
        pairs.reverse();
        pairs.retain(|pair| !pair.1.is_empty());
        Self(pairs.into())
    }
}

impl Labels {
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|pair| (*pair.0).cmp(name)).ok()?;
        self.0.get(at).map(|pair| &*pair.1)
    }

    /// Pairs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    pub(crate) fn without_name(&self) -> Self {
        self.filtered(|name| name != NAME)
    }

    /// Those of `names` alone.
    pub(crate) fn only(&self, names: &[String]) -> Self {
        self.filtered(|name| names.iter().any(|other| other == name))
    }

    /// All but `names` and the metric's name.
    pub(crate) fn without(&self, names: &[String]) -> Self {
        self.filtered(|name| name != NAME && names.iter().all(|other| other != name))
    }

    /// All but `names`.
    pub(crate) fn except(&self, names: &[String]) -> Self {
        self.filtered(|name| names.iter().all(|other| other != name))
    }

    /// With this label; an empty value removes it.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        if self.get(name).unwrap_or_default() == value {
            return self.clone();
        }
        self.0.iter().cloned().chain([(Arc::from(name), Arc::from(value))]).collect()
    }
}

impl fmt::Display for Labels {
    /// As PromQL writes it: `{agent="web-01", check="disk"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, (name, value)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
