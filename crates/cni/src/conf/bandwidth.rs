//! The capability `bandwidth` (CNI CONVENTIONS.md): rates in bits per second, bursts in bits.

use weft_model::{Bandwidth, Limit};

use crate::field::{Field, FieldError, Object};

/// Runtimes know no burst in what their users write, and pass the largest number that they dare to: kubelet
/// and its heirs 2^31 - 1 (kubernetes#90838: a limit of 10 Mbit/s that lets 2 Gbit pass first), others more
/// (cri-o#4325). From here on it is taken for "none was wished", and one that suits the rate is used.
const NO_WISH: u64 = (1 << 31) - 1;

/// Reads the wish. Go prints what was not set as 0: a direction of zeros asks for nothing, but a wish for
/// rates of which none is above 0 is a mistake.
pub(super) fn parse(field: &Field<'_>) -> Result<Bandwidth, FieldError> {
    let object = field.object()?;
    let ingress = limit(&object, "ingressRate", "ingressBurst")?;
    let egress = limit(&object, "egressRate", "egressBurst")?;
    let bandwidth = Bandwidth { ingress, egress };
    let rates = ["ingressRate", "egressRate"].into_iter().find_map(|key| object.get_any_case(key));
    match rates {
        Some(rate) if bandwidth.is_unlimited() => {
            Err(rate.not("a rate: 0 would let nothing through; leave out what shall not be limited"))
        }
        _ => Ok(bandwidth),
    }
}

fn limit(object: &Object<'_>, rate: &str, burst: &str) -> Result<Option<Limit>, FieldError> {
    let (rate, burst) = (object.get_any_case(rate), object.get_any_case(burst));
    let number = |field: &Option<Field<'_>>| field.as_ref().map_or(Ok(0), Field::large_number);
    match (&rate, number(&rate)?, number(&burst)?) {
        (_, 0, 0) => Ok(None),
        (None, _, _) => Err(FieldError::Missing { key: object.path(rate_of(burst.as_ref())) }),
        (Some(field), bits, burst) => {
            let burst = Some(burst).filter(|b| (1..NO_WISH).contains(b));
            Limit::new(bits, burst).map(Some).map_err(|why| field.not(format!("a rate: {why}")))
        }
    }
}

/// Which rate is missing beside a burst.
fn rate_of(burst: Option<&Field<'_>>) -> &'static str {
    let of_ingress = |f: &Field<'_>| f.key.to_ascii_lowercase().contains("ingress");
    if burst.is_some_and(of_ingress) { "ingressRate" } else { "egressRate" }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Bandwidth, String> {
        parse(&Field { key: "bandwidth".to_owned(), value }).map_err(|e| e.to_string())
    }

    #[test]
    fn wishes_of_runtimes_are_understood() {
        for (value, wanted) in [
            (json!({}), ""),
            (json!({"ingressRate": 1_000_000, "ingressBurst": 500_000}), "1M:500k/-"),
            (json!({"egressRate": 1_000_000}), "-/1M"),
            // As kubelet, containerd and CRI-O write it.
            (
                json!({"ingressRate": 10_000_000, "ingressBurst": 2_147_483_647, "egressRate": 0, "egressBurst": 0}),
                "10M/-",
            ),
            (
                json!({"IngressRate": 10_000_000, "IngressBurst": u64::from(u32::MAX), "EgressRate": 20_000_000, "EgressBurst": u64::from(u32::MAX) * 8 - 1}),
                "10M/20M",
            ),
        ] {
            let wanted = if wanted.is_empty() { Bandwidth::default() } else { wanted.parse().unwrap() };
            assert_eq!(read(&value), Ok(wanted), "{value}");
        }
    }

    #[test]
    fn rates_that_cannot_be_are_refused() {
        for (value, wanted) in [
            (json!({"ingressRate": 0, "egressRate": 0}), "'0' is not a rate: 0 would let nothing through"),
            (
                json!({"ingressRate": 0, "ingressBurst": 5}),
                "'0' is not a rate: a rate of 0 would let nothing through",
            ),
            (json!({"egressRate": 1_000_000_000_000_000_000_u64}), "too high: the highest rate is 1T"),
            (json!({"egressRate": 1000}), "too low: the lowest rate is 128k"),
            (json!({"egressBurst": 1000}), "key 'bandwidth.egressRate' is missing"),
            (json!({"ingressBurst": 1000}), "key 'bandwidth.ingressRate' is missing"),
            (json!({"egressRate": -1}), "'-1' is not a whole number of at most 64 bits"),
            (json!({"egressRate": 1.5}), "'1.5' is not a whole number of at most 64 bits"),
            (json!({"egressRate": "1M"}), "must be a whole number of at most 64 bits, but is a string"),
            (
                json!({"egressRate": 1_000_000, "egressBurst": 1_000_000_000}),
                "lasts more than 4 seconds at 1M bit/s",
            ),
            (json!([]), "must be an object, but is a list"),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.contains(wanted), "{value}: {error}");
        }
    }
}
