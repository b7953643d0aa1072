/* boxes.h: a normal number cut to an interval, of which fields and densities of boxes are made; inside of core/flow. */
#ifndef FMCORE_CORE_FLOW_BOXES_H
#define FMCORE_CORE_FLOW_BOXES_H

/* Rules of Gauss and Legendre for fm__cut_normal(). */
enum { FM__CUT_RULES = 3, FM__CUT_NODES = 24 };
typedef struct FmCutRule {
    double x[FM__CUT_RULES][FM__CUT_NODES], w[FM__CUT_RULES][FM__CUT_NODES];
} FmCutRule;
void fm__cut_rule(FmCutRule *rule);

/* z is N(0, 1) cut to an interval of width h > 0 whose middle is m away from 0, of probability P: log(P / h) and, when
 * not NULL, *off = E z - m; to 1e-12 at any distance. */
double fm__cut_normal(const FmCutRule *rule, double m, double h, double *off);

#endif
