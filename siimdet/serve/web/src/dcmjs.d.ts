/** The part of dcmjs, which has no types, that the page uses. */
declare module 'dcmjs' {
  interface Log {
    setLevel(level: 'silent', persist: boolean): void;
    getLogger(name: string): Log;
  }
  export const log: Log;
}
