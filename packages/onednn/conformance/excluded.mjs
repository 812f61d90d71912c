// Specifications that are not run, each as [name, reason]. None: the backend passes the whole suite. (Five specifications are
// pending because the suite itself has disabled them.)
export const EXCLUDED = [];
