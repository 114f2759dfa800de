//! What one file can make a plan hold.

use super::*;
use crate::parse::parse;
use crate::request::{BuildRequest, InputFile};

fn planned(text: &str) -> Result<BuildPlan, String> {
    let request = BuildRequest::new(InputFile {
        name: "Dockerfile".to_owned(),
        bytes: text.as_bytes().to_vec(),
    });
    let file = parse(text.as_bytes(), "Dockerfile").map_err(|error| error.to_string())?;
    let plan = plan(&file, &request, &|_, _, _| Ok(None)).map_err(|error| error.to_string())?;
    plan.ok_or_else(|| "an image is missing".to_owned())
}

#[test]
fn a_small_file_cannot_make_a_large_plan() {
    let many = |prefix: &str, line: &str, count: usize| format!("{prefix}\n{}", line.repeat(count));
    for (text, message) in [
        (
            many("FROM scratch", "EXPOSE 1-65535\n", 100),
            "the history of this stage is larger than",
        ),
        (
            format!("FROM scratch\nEXPOSE{}", " 1-65535".repeat(10)),
            "EXPOSE with more than 262144 ports",
        ),
        (
            many("FROM scratch", "WORKDIR abcdefgh\n", 2000),
            "the history of this stage is larger than",
        ),
        (
            many("FROM scratch\nENV a=aaaaaaaa", "ENV a=$a$a\n", 30),
            "larger than",
        ),
        (
            format!(
                "FROM scratch AS s0\n{}\n{}",
                (0..2000)
                    .map(|at| format!("LABEL l{at}=\n"))
                    .collect::<String>(),
                (0..3000)
                    .map(|at| format!("FROM s{at} AS s{}\n", at + 1))
                    .collect::<String>()
            ),
            "more than 4194304 variables, labels, ports and volumes together",
        ),
    ] {
        let error = planned(&text).unwrap_err();
        assert!(error.contains(message), "{error:.300}");
    }
}

/// Each command sees the variables as they were, and a stage below another one adds nothing to it.
#[test]
fn ten_thousand_stages_and_variables_are_planned() {
    let mut text = String::from("FROM scratch AS s0\n");
    for at in 0..10_000 {
        text.push_str(&format!("FROM s{at} AS s{}\nENV v{at}={at}\n", at + 1));
    }
    text.push_str("RUN [\"a\"]\nENV v3=x\nRUN [\"a\"]\nRUN [\"b\"]\n");
    let plan = planned(&text).unwrap();
    let last = &plan.stages[plan.target];
    let envs: Vec<_> = last
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Run(run) => Some(&run.env),
            _ => None,
        })
        .collect();
    assert_eq!(envs[0].len(), 10_001, "and PATH");
    assert!(envs[0].contains(&"v3=3".to_owned()) && envs[1].contains(&"v3=x".to_owned()));
    assert!(Arc::ptr_eq(envs[1], envs[2]));
    assert_eq!(last.env.len(), 10_001);
    assert_eq!(last.env.get(4).map(String::as_str), Some("v3=x"));
    assert_eq!(plan.stages[2].env.len(), 3);
}
