/// Why there is no answer. The names of the kinds are those of Prometheus' HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The question itself cannot be understood.
    #[error("{0}")]
    BadData(String),
    /// It is understood and cannot be answered on this data, or not within the limits.
    #[error("{0}")]
    Execution(String),
    #[error("query timed out in expression evaluation")]
    Timeout,
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The samples could not be read.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// `errorType` in the answer.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadData(_) => "bad_data",
            Self::Execution(_) => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Internal(_) => "internal",
        }
    }

    /// Status of the HTTP answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BadData(_) => 400,
            Self::Execution(_) => 422,
            Self::Timeout | Self::Canceled => 503,
            Self::Internal(_) => 500,
        }
    }

    pub(crate) fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }

    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::BadData(text.into())
    }

    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::Execution(format!("{what} is not supported here"))
    }

    pub(crate) fn same_labels() -> Self {
        Self::execution("vector cannot contain metrics with the same labelset")
    }
}
