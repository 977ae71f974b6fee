//! The message of remote write 1.0: a `prometheus.WriteRequest` of protobuf, in one block of snappy.

use prost::Message;

use crate::core::remote::Series;

#[derive(Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Message)]
struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// # Errors
/// When it is larger than snappy can hold (4 GiB).
pub(super) fn encode(series: &[Series]) -> Result<Vec<u8>, snap::Error> {
    let timeseries = series.iter().map(|series| TimeSeries {
        labels: series
            .labels
            .iter()
            .map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() })
            .collect(),
        samples: series.samples.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect(),
    });
    let request = WriteRequest { timeseries: timeseries.collect() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_bytes_of_the_specification() {
        let series = [Series { labels: [("__name__", "up")].into_iter().collect(), samples: vec![(1, 1.0)] }];
        let bytes = snap::raw::Decoder::new().decompress_vec(&encode(&series).unwrap()).unwrap();
        let mut expected = vec![0x0a, 29, 0x0a, 14, 0x0a, 8];
        expected.extend(b"__name__");
        expected.extend([0x12, 2]);
        expected.extend(b"up");
        expected.extend([0x12, 11, 0x09]);
        expected.extend(1.0_f64.to_le_bytes());
        expected.extend([0x10, 1]);
        assert_eq!(bytes, expected);
    }
}
