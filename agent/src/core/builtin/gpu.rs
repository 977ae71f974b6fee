//! Graphics processors, by `nvidia-smi`.

use super::{Host, Judged, Measured, Number, Options, Rates, decimal, highest, pattern::Choice};

const QUERY: [&str; 2] = [
    "--query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw",
    "--format=csv,noheader,nounits",
];

pub(super) fn gpu(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let ran = host.run("nvidia-smi", &QUERY)?;
    if ran.code != Some(0) {
        let said: String = format!("{} {}", ran.stdout.trim(), ran.stderr.trim()).chars().take(200).collect();
        return Err(format!("nvidia-smi failed: {}", said.trim()));
    }
    understood(&ran.stdout, Choice::of(options, "devices"))
}

/// A line for each: `0, NVIDIA A100-SXM4-40GB, 37, 1024, 40960, 45, 61.27`. What a device does not tell is `[N/A]` or
/// `[Not Supported]`.
fn understood(text: &str, choice: Choice<'_>) -> Result<Measured, String> {
    let mut numbers = Vec::new();
    let mut busiest: Option<(f64, String)> = None;
    let mut devices = 0_u32;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [index, name, busy, used, total, temperature, power] = fields.as_slice() else {
            return Err(format!("a line of nvidia-smi cannot be understood: {line:?}"));
        };
        let gpu = format!("gpu{index}");
        if !choice.takes_one_of(&[&gpu, name]) {
            continue;
        }
        devices += 1;
        let mut part = Vec::new();
        if let Some(degrees) = decimal(temperature) {
            let number = Number::new(format!("{gpu}_temperature"), degrees, "°C");
            part.push(Number { min: None, ..number }.judged());
        }
        if let Some(busy) = decimal(busy) {
            part.push(Number::percent(format!("{gpu}_busy"), busy));
            if busiest.as_ref().is_none_or(|(highest, _)| busy > *highest) {
                busiest = Some((busy, format!("{gpu} ({name})")));
            }
        }
        if let (Some(used), Some(total)) = (decimal(used), decimal(total).filter(|total| *total > 0.0)) {
            part.push(Number::percent(format!("{gpu}_memory"), used / total * 100.0));
        }
        part.extend(decimal(power).map(|watts| Number::new(format!("{gpu}_power"), watts, "W")));
        numbers.extend(part);
    }
    if devices == 0 {
        return Err("nvidia-smi shows no such device".to_owned());
    }
    if numbers.is_empty() {
        return Err(format!("none of {devices} devices tells anything"));
    }
    let hottest = highest(numbers.iter().filter(|number| number.judged == Judged::ByCheck));
    let hottest = hottest.map(|number| format!(", the hottest {:.0} °C", number.value)).unwrap_or_default();
    let busiest = busiest.map(|(busy, name)| format!(", the busiest {name} {busy:.0}%")).unwrap_or_default();
    Ok(Measured { numbers, text: format!("{devices} devices{busiest}{hottest}"), ..Measured::default() })
}
