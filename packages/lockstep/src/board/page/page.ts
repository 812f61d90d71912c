/** The board's page: begins with whatever there is, a report's own figures or a server, and puts the frame together. */
import { Frame } from './frame.js';
import { type ReportData, ReportSource, ServerSource } from './source.js';
import { Store } from './store.js';

const report = document.getElementById('report');
const source = report ? new ReportSource(JSON.parse(report.textContent ?? '') as ReportData) : new ServerSource();
const store = new Store(source);
const frame = new Frame(store);
document.body.replaceChildren(frame.element);
void frame.start();
