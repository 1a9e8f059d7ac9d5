/** The settings of a project: nothing but the colours of its deleted classes needs a script here. */
import { paintColours } from "../ui/colours.js";

paintColours();
