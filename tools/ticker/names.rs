//! Names and symbols of companies that do not exist.

use crate::rng::Rng;

/// First halves of names. Common characters all of them, so that GBK has them too.
const FIRST: [&str; 48] = [
    "云", "青", "白", "金", "东", "南", "北", "西", "海", "江", "山", "天", "华", "明", "星", "光", "远", "长", "永",
    "新", "大", "中", "安", "宏", "盛", "恒", "瑞", "祥", "嘉", "泰", "鼎", "万", "千", "三", "九", "龙", "凤", "松",
    "枫", "梅", "兰", "石", "玉", "银", "晨", "春", "秋", "和",
];
const SECOND: [&str; 40] = [
    "港", "岚", "鹭", "桥", "湖", "川", "源", "泉", "峰", "原", "洲", "城", "润", "达", "通", "丰", "隆", "兴", "业",
    "信", "德", "诚", "正", "立", "康", "宁", "方", "元", "基", "鑫", "博", "创", "联", "捷", "飞", "腾", "辉", "耀",
    "林", "河",
];
/// What they do. Most are two characters, which makes the usual four.
const TRADE: [&str; 40] = [
    "股份", "科技", "电力", "实业", "银行", "铁路", "高速", "能源", "医药", "生物", "电子", "通信", "软件", "机械",
    "重工", "钢铁", "铝业", "水泥", "化工", "材料", "纺织", "食品", "酒业", "乳业", "农业", "林业", "渔业", "环保",
    "水务", "燃气", "航空", "航运", "港口", "物流", "汽车", "家电", "文化", "传媒", "旅游", "地产",
];
/// Some names end in the kind of their shares.
const SHORT_TRADE: [&str; 6] = ["药A", "投A", "建B", "化A", "控B", "电A"];

/// A name of three or four characters, 10 to 12 bytes.
pub fn company(rng: &mut Rng) -> String {
    let (first, second) = (rng.pick(&FIRST), rng.pick(&SECOND));
    let trade = if rng.below(16) == 0 { rng.pick(&SHORT_TRADE) } else { rng.pick(&TRADE) };
    format!("{first}{second}{trade}")
}

/// Markets: what their symbols begin with and their first number.
const BOARDS: [(&str, u32); 3] = [("sh", 600_000), ("sz", 1), ("sz", 300_001)];

/// Symbols as they are given out at an exchange: rising, with gaps, on three boards in turn.
#[derive(Debug)]
pub struct Symbols {
    next: [u32; BOARDS.len()],
    turn: usize,
}

impl Symbols {
    /// So many are sure to be there: a board has 100,000 numbers before the next one's, and a gap is three at most.
    pub const MOST: u32 = 100_000;

    pub fn new() -> Symbols {
        Symbols { next: BOARDS.map(|(_, first)| first), turn: 0 }
    }

    /// Eight bytes that no other call returns.
    pub fn next(&mut self, rng: &mut Rng) -> String {
        let board = self.turn % BOARDS.len();
        self.turn += 1;
        let symbol = format!("{}{:06}", BOARDS[board].0, self.next[board]);
        self.next[board] += 1 + rng.below(3) as u32;
        symbol
    }
}
