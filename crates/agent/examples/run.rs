//! x
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let config = weft_agent::Config { state_dir: format!("{dir}/state").into(), run_dir: format!("{dir}/run").into(), ..Default::default() };
    if let Err(e) = weft_agent::run(&config) { let mut s: Option<&dyn std::error::Error> = Some(&e); while let Some(x) = s { eprintln!("{x}"); s = x.source(); } }
}
