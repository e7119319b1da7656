// Live scores, one line a match. Change a number, save: every open page shows it at its next poll.
//
// hq_score_ID="home,away,goals,goals,minute or kick-off,state,half-time,ground,attendance,events"
//   state   NS not started, 1H, HT, 2H, FT, PP postponed
//   events  minute, H or A for the side, shirt number, then p penalty, o own goal, r sent off
// The letters at the start of an ID name its group.

var scores_updated="2026-11-20 20:37:12";

var scores_group_lc="Lantern Cup,round of 16,灯笼杯";
var hq_score_lc1601="Northgate Rovers,云港海鸥,2,1,78,2H,1-0,Mill Lane,18240,31H9 57A11 71H10p";
var hq_score_lc1602="白鹭城,Ørsund BK,1,1,80,2H,0-1,鹭岛体育场,22715,18A7 64H8";
var hq_score_lc1603="São Calisto,Łąkowa Dolina,0,0,77,2H,0-0,Estádio do Cais,9860,52A4r";
var hq_score_lc1604="Zürnbach 04,Atlético Miralba,1,2,37,1H,,Wehrstraße,14302,6A9 22H11 34A10";
var hq_score_lc1605="青岚竞技,Harrowmere Town,2,0,45,HT,2-0,青岚山球场,26981,12H10 45+1H6";
var hq_score_lc1606="Port Ébène AC,Kåsavik FF,3,2,90,FT,1-2,Quai aux Épices,11047,9A14 27H7 41A9 68H19 90+3H5";
var hq_score_lc1607="Île-aux-Cygnes,Černý Mlýn,1,0,90,FT,0-0,Parc des Roseaux,7415,83H15";
var hq_score_lc1608="Valdoré SC,星河联,0,0,21:15,NS,,Stade de la Tuilerie,,";

var scores_group_ms="Meadow Shield,quarter-finals,草原盾";
var hq_score_ms0801="松涛联,Tolvmile BK,0,1,66,2H,0-0,松涛公园,3120,59A20";
var hq_score_ms0802="Fennick Wanderers,Görlenau,2,2,90,FT,2-1,Sluice Road,1894,4H9 19A3o 40H9 88A16p";
var hq_score_ms0803="Pedra Longa,枫桥镇,0,0,21:00,NS,,Campo do Moinho,,";
var hq_score_ms0804="Żurawia Łąka,Saint-Ébrard,0,0,,PP,,Stadion nad Rzeką,,";

var scores_ticker="80 鹭岛: corner from the left, headed over|78 Mill Lane: 云港海鸥 make a double change|77 Estádio do Cais: free kick saved low at the post|66 松涛公园: a shot from thirty metres, just wide|45+2 青岚山球场: half-time, two up and in control|37 Wehrstraße: Miralba keep the ball in midfield";
