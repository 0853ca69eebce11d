//! How the cost grows with the length of a prompt, the points of a sweep and the number of prompts, as a table and a plot.

use std::fmt::Write as _;
use std::path::Path;

use nnsight::prelude::*;

use crate::figure::several;
use crate::passes::sequence;
use crate::{Model, Result};

/// One line of the plot.
struct Series {
    name: &'static str,
    /// How many, and milliseconds.
    points: Vec<(usize, f64)>,
}

/// Measures, prints, and draws.
///
/// # Errors
/// What a run fails with, and where the file cannot be written.
pub fn growth(model: &Model, file: &Path) -> Result<()> {
    let all = [positions(model)?, points(model)?, prompts(model)?];
    for series in &all {
        println!("{:<40} {:>10}   {:>10}", series.name, "ms", "ms each");
        series.points.iter().for_each(|(count, ms)| println!("{count:>40} {ms:>10.1}   {:>10.2}", ms / *count as f64));
    }
    Ok(std::fs::write(file, draw(&all))?)
}

fn positions(model: &Model) -> Result<Series> {
    let points = [16, 32, 64, 128, 256, 512, 1024].into_iter().map(|length| {
        let tokens = sequence(length);
        let runs = if length > 256 { 3 } else { 7 };
        Ok((length, several(runs, || Ok(trace!(model, &tokens, { model.lm_head.output.at(Seq, -1) }).map(drop)?))?))
    });
    Ok(Series { name: "positions of a prompt", points: points.collect::<Result<_>>()? })
}

/// Every layer and position of a prompt of 14 tokens, and then again with other strengths.
fn points(model: &Model) -> Result<Series> {
    let tokens = sequence(14);
    let points = [1usize, 10, 100, 1000, 10_000].into_iter().map(|count| {
        let all = (0..count).map(|index| (index % 30, index / 30 % 14, 0.5 + (index / 420) as f64 * 0.05)).collect::<Vec<_>>();
        let run = || {
            let points = all.iter().copied();
            let swept = sweep!(
                model,
                &tokens,
                for (layer, position, strength) in points {
                    model.layers[layer].output.at(Seq, position) *= strength;
                    model.lm_head.output.at(Seq, -1).max(Vocab)
                }
            )?;
            assert_eq!(swept.dims(), [count, 1]);
            Ok(())
        };
        Ok((count, if count < 1000 { several(3, run)? } else { crate::figure::time(&mut { run })? }))
    });
    Ok(Series { name: "points of a sweep", points: points.collect::<Result<_>>()? })
}

fn prompts(model: &Model) -> Result<Series> {
    let points = [1usize, 2, 4, 8, 16, 32, 64].into_iter().map(|count| {
        let prompts = (0..count).map(|index| sequence(14 + index)[index..].to_vec()).collect::<Vec<_>>();
        Ok((count, several(5, || Ok(trace!(model, &prompts, { model.lm_head.output.at(Seq, -1) }).map(drop)?))?))
    });
    Ok(Series { name: "prompts of 14 tokens", points: points.collect::<Result<_>>()? })
}

/// A plot with a logarithmic scale on both axes for each; the dotted line is what growing in proportion would be.
fn draw(all: &[Series]) -> String {
    const SIZE: f64 = 240.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"300\" font-family=\"sans-serif\" font-size=\"11\">\n",
        all.len() * 320
    );
    svg += "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    for (place, series) in all.iter().enumerate() {
        let (left, top) = (60.0 + 320.0 * place as f64, 30.0);
        let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { continue };
        let low = series.points.iter().map(|point| point.1).fold(f64::MAX, f64::min).log10().floor();
        let high = series.points.iter().map(|point| point.1).fold(0.0, f64::max).log10().ceil();
        let x = |count: f64| left + SIZE * (count / first.0 as f64).ln() / (last.0 as f64 / first.0 as f64).ln();
        let y = |ms: f64| top + SIZE * (high - ms.log10()) / (high - low);
        _ = writeln!(svg, "<text x=\"{left}\" y=\"18\">ms, by {}</text>", series.name);
        _ = writeln!(svg, "<rect x=\"{left}\" y=\"{top}\" width=\"{SIZE}\" height=\"{SIZE}\" fill=\"none\" stroke=\"#999\"/>");
        for power in low as i32..=high as i32 {
            let (ms, at) = (10f64.powi(power), y(10f64.powi(power)));
            _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ms}</text>", left - 6.0, at + 4.0);
            _ = writeln!(svg, "<path d=\"M {left} {at:.1} h {SIZE}\" stroke=\"#eee\"/>");
        }
        let through = series.points[series.points.len() / 2];
        let line = |count: usize| (x(count as f64), y(through.1 * count as f64 / through.0 as f64).clamp(top, top + SIZE));
        let ((x1, y1), (x2, y2)) = (line(first.0), line(last.0));
        _ = writeln!(svg, "<path d=\"M {x1:.1} {y1:.1} L {x2:.1} {y2:.1}\" stroke=\"#bbb\" stroke-dasharray=\"2 4\"/>");
        let path = series.points.iter().map(|&(count, ms)| format!("{:.1} {:.1}", x(count as f64), y(ms))).collect::<Vec<_>>().join(" L ");
        _ = writeln!(svg, "<path d=\"M {path}\" fill=\"none\" stroke=\"#3b76c4\" stroke-width=\"2\"/>");
        for &(count, ms) in &series.points {
            let (x, y) = (x(count as f64), y(ms));
            _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#3b76c4\"/>");
            _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{count}</text>", top + SIZE + 16.0);
        }
    }
    svg + "</svg>\n"
}
