//! Large sets work, and what things cost: run with `--release -- --nocapture measures` to see numbers.

use std::time::{Duration, Instant};

use super::*;

fn key(number: u32) -> Key {
    Key::from([Value::Ipv4((0x0a00_0000 + number).into()), Value::protocol(6), Value::port(80)])
}

fn guard(number: u32) -> Key {
    let name = IfName::new(&format!("weft{number}")).unwrap();
    let mac = weft_model::Mac::from_seed(number.into());
    Key::from([Value::IfName(name), Value::Mac(mac), Value::Ipv4((0x0a00_0000 + number).into())])
}

fn large(count: u32, interval: bool) -> Tables {
    let mut table = Table::default();
    let declaration = Declaration::map(&[Type::Ipv4, Type::Protocol, Type::Port], &[Type::Ipv4, Type::Port]);
    let datum = |n: u32| Some(Datum::from([Value::Ipv4(n.into()), Value::port(8080)]));
    let elements = (0..count).map(|n| (key(n), datum(n))).collect();
    table.sets.insert("hash".to_owned(), Set { declaration, elements });
    if interval {
        let elements = (0..count)
            .map(|n| {
                let first = 0x0a00_0000 + n * 16;
                (Key(vec![Item::range(Value::Ipv4(first.into()), Value::Ipv4((first + 15).into()))]), None)
            })
            .collect();
        let declaration = Declaration::set(&[Type::Ipv4]).intervals();
        table.sets.insert("nets".to_owned(), Set { declaration, elements });
    }
    Tables::from([(TableName::new(Family::Inet, "weft"), table)])
}

#[test]
fn ten_thousand_elements_come_and_go() {
    for interval in [false, true] {
        let all = large(10_000, interval);
        in_netns(|socket, _| {
            let started = Instant::now();
            applied(socket, &install(&all));
            println!("10,000 elements, interval {interval}: {:?}", started.elapsed());
            let started = Instant::now();
            let found = read(socket, &names(&all)).unwrap();
            println!("  read: {:?}", started.elapsed());
            assert_eq!(found, all);
            let started = Instant::now();
            assert!(diff(&all, &found).is_empty());
            println!("  diff: {:?}", started.elapsed());
            let fewer = large(100, interval);
            let steps = diff(&fewer, &all);
            assert!(steps.install.is_empty());
            let started = Instant::now();
            applied(socket, &steps.remove);
            println!("  9,900 deleted: {:?}", started.elapsed());
            assert_eq!(read(socket, &names(&all)).unwrap(), fewer);
        });
    }
}

#[test]
fn three_elements_in_three_families_are_quick() {
    let families = [Family::Inet, Family::Bridge, Family::Arp];
    let part = [Type::IfName, Type::Mac, Type::Ipv4];
    let mut tables = Tables::new();
    for family in families {
        let mut table = Table::default();
        let elements = (0..1000).map(|n| (guard(n), None)).collect();
        table.sets.insert("guard4".to_owned(), Set { declaration: Declaration::set(&part), elements });
        tables.insert(TableName::new(family, "weft"), table);
    }
    in_netns(|socket, _| {
        applied(socket, &install(&tables));
        let started = Instant::now();
        read(socket, &names(&tables)).unwrap();
        println!("read of three tables with 3,000 elements: {:?}", started.elapsed());
        let mut times = Vec::new();
        for round in 0..200_u32 {
            let op = |family, add| {
                let table = TableName::new(family, "weft");
                let (set, interval, key) = ("guard4".to_owned(), false, guard(5000 + round));
                match add {
                    true => Op::AddElements { table, set, interval, elements: vec![(key, None)] },
                    false => Op::DeleteElements { table, set, interval, keys: vec![key] },
                }
            };
            let started = Instant::now();
            applied(socket, &families.map(|family| op(family, true)));
            times.push(started.elapsed());
            applied(socket, &families.map(|family| op(family, false)));
        }
        times.sort();
        println!("3 elements in 3 families: median {:?}, p99 {:?}", times[100], times[197]);
        assert!(times[100] < Duration::from_millis(5), "{:?}", times[100]);
    });
}
